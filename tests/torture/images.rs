//! Real file systems: an ext4 in an image file, copied while a server writes to it, and one that is full.
//!
//! What a copy shows: everything that was handed to the device until then, with or without a flush. So a *sync* that is
//! missing is seen, since without it data stays in the memory of the file system above the device; a *flush* that the file
//! system does not send to the device is not. The server is stopped (SIGSTOP) for the copy, and a copy during which the
//! device was written to is taken again: otherwise its first part could be older than its last, which no device does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::RngExt;
use tempfile::TempDir;
use vectron::pb::v1 as pb;

use crate::common::data_folder;
use crate::effort::{Effort, dice};
use crate::figures;
use crate::process::{Client, Process, Records, Written, compare, record};

#[test]
fn a_power_cut_of_a_real_file_system_loses_nothing_durable() {
    power_cuts(&Effort::short(4));
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    full_disks(&Effort::short(4));
}

/// An ext4 in a file, mounted. Unmounted when dropped.
struct Image {
    folder: TempDir,
    device: String,
}

impl Image {
    /// None where this process may not mount, which is said.
    fn new(megabytes: u64) -> Option<Self> {
        let folder = data_folder();
        let file = folder.path().join("image");
        fs::File::create(&file).and_then(|file| file.set_len(megabytes << 20)).expect("an empty file");
        if let Err(error) = run("mkfs.ext4", &["-q", "-F", "-m", "0", &file.to_string_lossy()]) {
            eprintln!("left out: accidents of a real file system, because mkfs.ext4 fails: {error}");
            return None;
        }
        Self::mount(folder)
    }

    fn mount(folder: TempDir) -> Option<Self> {
        let (file, place) = (folder.path().join("image"), folder.path().join("mounted"));
        fs::create_dir_all(&place).expect("a folder");
        let mounted = run("losetup", &["--find", "--show", &file.to_string_lossy()]).and_then(|device| {
            let device = device.trim().to_owned();
            let mounted = run("mount", &["-t", "ext4", &device, &place.to_string_lossy()]);
            if mounted.is_err() {
                let _ = run("losetup", &["--detach", &device]);
            }
            mounted.map(|_| device)
        });
        match mounted {
            Ok(device) => Some(Self { folder, device }),
            Err(error) => {
                eprintln!("left out: accidents of a real file system, which needs root and loop devices: {error}");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("mounted/data")
    }

    /// Sectors that were written to the device so far.
    fn sectors_written(&self) -> String {
        let name = Path::new(&self.device).file_name().expect("a device has a name").to_string_lossy().into_owned();
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).expect("Linux tells");
        stat.split_whitespace().nth(6).expect("the seventh figure is sectors written").to_owned()
    }

    /// The device as it is at one moment.
    fn cut(&self) -> Option<Self> {
        let folder = data_folder();
        for _ in 0..50 {
            let before = self.sectors_written();
            let (from, to) = (self.folder.path().join("image"), folder.path().join("image"));
            run("cp", &["--sparse=always", &from.to_string_lossy(), &to.to_string_lossy()]).expect("a copy");
            if self.sectors_written() == before {
                return Self::mount(folder);
            }
        }
        panic!("the device is written to all the time, though the server is stopped");
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for _ in 0..50 {
            if run("umount", &[&self.folder.path().join("mounted").to_string_lossy()]).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = run("losetup", &["--detach", &self.device]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(said) }
}

/// What one writer knows: every state that it sent, and the last that was acknowledged.
struct Told {
    states: Vec<Records>,
    acknowledged: usize,
}

pub fn power_cuts(effort: &Effort) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut dice = dice(effort.seed);
    let mut rounds = 0;
    while effort.has_time() || rounds == 0 {
        rounds += 1;
        let Some(image) = Image::new(32) else { return };
        let server = Process::healthy(&image.data());
        let told: Vec<_> =
            (0..3).map(|_| Arc::new(Mutex::new(Told { states: vec![Records::new()], acknowledged: 0 }))).collect();
        let writers: Vec<_> = (0..3)
            .map(|number| runtime.spawn(write(server.address.clone(), number, told[number].clone(), dice.random())))
            .collect();
        wait_for_a_write(&told);
        for _ in 0..if effort.is_long { 10 } else { 5 } {
            thread::sleep(Duration::from_millis(dice.random_range(0..200)));
            let acknowledged: Vec<usize> = told.iter().map(|told| told.lock().unwrap().acknowledged).collect();
            server.signal("STOP");
            thread::sleep(Duration::from_millis(5)); // calls that are on their way come to their end
            let cut = image.cut().expect("one was mounted already");
            server.signal("CONT");
            let sent: Vec<Vec<Records>> = told.iter().map(|told| told.lock().unwrap().states.clone()).collect();
            runtime.block_on(verify_cut(&cut, &acknowledged, &sent));
            figures::add("power cuts, ext4 image", 1);
        }
        server.kill();
        for writer in writers {
            runtime.block_on(writer).expect("a writer does not panic");
        }
        let written: usize = told.iter().map(|told| told.lock().unwrap().acknowledged).sum();
        assert!(written > 0, "nothing was written, so nothing could be lost");
        figures::add("acknowledged writes before power cuts, ext4 image", written as u64);
    }
}

fn wait_for_a_write(told: &[Arc<Mutex<Told>>]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while told.iter().any(|told| told.lock().unwrap().acknowledged == 0) {
        assert!(Instant::now() < deadline, "a writer has had nothing acknowledged");
        thread::sleep(Duration::from_millis(1));
    }
}

async fn write(address: String, number: usize, told: Arc<Mutex<Told>>, seed: u64) {
    let Some(mut client) = Client::connect(&address).await else { return };
    let mut dice = dice(seed);
    for write in 0.. {
        let mut after = told.lock().unwrap().states.last().expect("there is always one").clone();
        let mut records = std::collections::BTreeMap::new();
        for _ in 0..dice.random_range(1..30) {
            let id = format!("w{number}-{:02}", dice.random_range(0..90));
            records.insert(id.clone(), record(&id, write));
            after.insert(id, Written { number: write, version: None });
        }
        told.lock().unwrap().states.push(after);
        let collection = ["one", "two"][number % 2];
        if client.upsert(collection, records.into_values().collect(), pb::Durability::Durable).await.is_err() {
            return;
        }
        let mut told = told.lock().unwrap();
        told.acknowledged = told.states.len() - 1;
    }
}

async fn verify_cut(cut: &Image, acknowledged: &[usize], sent: &[Vec<Records>]) {
    let server = Process::healthy(&cut.data());
    let mut client = server.client().await.expect("the server is ready");
    for (number, states) in sent.iter().enumerate() {
        let found = client.all(["one", "two"][number % 2]).await;
        client.check_search(["one", "two"][number % 2], &found, "after a power cut").await;
        let prefix = format!("w{number}-");
        let is_any = states[acknowledged[number]..].iter().any(|state| compare(&found, &prefix, state).is_ok());
        assert!(
            is_any,
            "lost, or in part: writer {number} had {} writes acknowledged: {:?}",
            acknowledged[number],
            compare(&found, &prefix, &states[acknowledged[number]])
        );
    }
    drop(client);
    server.kill();
}

pub fn full_disks(effort: &Effort) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut rounds = 0;
    while effort.has_time() || rounds == 0 {
        let Some(image) = Image::new(if rounds % 2 == 0 { 8 } else { 12 }) else { return };
        runtime.block_on(fill(&image, rounds));
        rounds += 1;
        figures::add("disks filled and freed", 1);
    }
}

/// Fills the disk, finds refusals and reads that go on, makes space, and finds writes that go on.
async fn fill(image: &Image, round: u32) {
    let ballast = image.folder.path().join("mounted/ballast");
    fs::write(&ballast, vec![1; 3 << 20]).expect("there is space yet");
    let server = Process::healthy(&image.data());
    let mut client = server.client().await.expect("the server is ready");
    // Buffered writes, in every third round, meet the full disk with nothing in between.
    let durability = if round % 3 == 2 { pb::Durability::Buffered } else { pb::Durability::Durable };
    let (mut state, mut doubtful) = (Records::new(), Vec::new());
    let mut refused = 0;
    for write in 0..4000_u32 {
        let (records, after) = large_batch(&state, write);
        match client.upsert("c", records, durability).await {
            Ok(sequence) => state = told(after, sequence),
            Err(status) => {
                assert_ne!(status.code(), tonic::Code::Internal, "a full disk is a reason of its own: {status}");
                doubtful.push(after);
                refused += 1;
                if refused == 5 {
                    break;
                }
            }
        }
    }
    assert!(refused == 5, "the disk did not become full");
    let found = client.all("c").await;
    assert!(!found.is_empty(), "reads go on");
    client.check_search("c", &found, "on a full disk").await;
    compare(&found, "", &state).unwrap_or_else(|error| panic!("wrong answer on a full disk: {error}"));

    fs::remove_file(&ballast).expect("it is there");
    let mut server = Some(server);
    let mut goes_on = false;
    for attempt in 0..60 {
        let (records, after) = large_batch(&state, 100_000 + attempt);
        match client.upsert("c", records, durability).await {
            Ok(sequence) => {
                (state, goes_on) = (told(after, sequence), true);
                doubtful.clear();
                break;
            }
            Err(_) => doubtful.push(after),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    figures::add(if goes_on { "full disks after which writes went on" } else { "full disks that took a restart" }, 1);
    drop(client);
    server.take().expect("it was not taken yet").kill();
    let server = Process::healthy(&image.data());
    let mut client = server.client().await.expect("the server is ready");
    let found = client.all("c").await;
    let is_any = compare(&found, "", &state).is_ok() || doubtful.iter().any(|state| compare(&found, "", state).is_ok());
    assert!(is_any, "lost, or in part, after a full disk: {:?}", compare(&found, "", &state));
    let (records, _) = large_batch(&state, 200_000);
    client.upsert("c", records, durability).await.expect("there is space, and the server is new");
    drop(client);
    server.kill();
}

fn told(mut state: Records, sequence: u64) -> Records {
    state.values_mut().filter(|written| written.version.is_none()).for_each(|w| w.version = Some(sequence));
    state
}

/// About 100 KB in the log.
fn large_batch(state: &Records, write: u32) -> (Vec<pb::RecordInput>, Records) {
    let mut after = state.clone();
    let records = (0..600).map(|part| {
        let (id, number) = (format!("r{:04}", (write * 7 + part) % 900), write * 1000 + part);
        after.insert(id.clone(), Written { number, version: None });
        record(&id, number)
    });
    (records.collect(), after)
}

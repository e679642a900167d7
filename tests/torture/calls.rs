//! A tracer kills the process at its Nth system call of a kind, or lets a sync fail.
//!
//! strace counts the calls of each thread for itself: the first thread that comes to its Nth call is the one. So N goes up
//! until a script runs through.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use vectron::pb::v1 as pb;

use crate::common::{self, Texts, data_folder};
use crate::effort::Effort;
use crate::figures;
use crate::process::{Client, Process, Records, Written, compare, record};

#[test]
fn kill_9_at_system_calls_loses_nothing_that_was_acknowledged() {
    killed_at_each(&Effort::short(4));
}

#[test]
fn after_a_sync_that_failed_nothing_more_is_acknowledged_until_a_restart() {
    syncs_that_fail(&Effort::short(3));
}

/// Calls that change files or make them durable. What a system does not have is left out.
const CALLS: [&str; 14] = [
    "fdatasync",
    "pwrite64",
    "fsync",
    "renameat",
    "rename",
    "renameat2",
    "fallocate",
    "ftruncate",
    "unlink",
    "unlinkat",
    "mkdir",
    "openat",
    "write",
    "close",
];

/// So many points are looked at in any case.
const POINTS_MIN: usize = 14;

/// Those of them of which a start makes hundreds on one thread.
const FREQUENT: [&str; 3] = ["openat", "write", "close"];

/// What a script knows of its collection: the state that was acknowledged, and those after each call that was not answered
/// well since. One of them may be found as well.
#[derive(Default)]
struct Script {
    acknowledged: Records,
    sent: Vec<Records>,
    /// The server is gone, or the collection takes no more.
    failed: bool,
    acknowledged_after_failure: bool,
    /// Calls that were not answered well.
    errors: u32,
}

pub fn killed_at_each(effort: &Effort) {
    if !has_strace() {
        return;
    }
    let runtime = runtime();
    let mut open: Vec<&str> = CALLS.to_vec();
    let mut points = 0;
    for nth in 1.. {
        // A script that ran through once has no later call of this kind, on any thread.
        open.retain(|call| {
            if !effort.has_time() && points >= POINTS_MIN {
                return true;
            }
            points += 1;
            let is_frequent = FREQUENT.contains(call);
            let nth = if is_frequent { nth * 7 } else { nth };
            runtime.block_on(killed_at(call, nth))
        });
        if open.is_empty() || (!effort.has_time() && points >= POINTS_MIN) {
            break;
        }
    }
}

/// Returns whether the process came to the call.
async fn killed_at(call: &str, nth: usize) -> bool {
    let scene = format!("killed at {call} number {nth} of a thread");
    let data = data_folder();
    let mut script = Script::default();
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let was_killed = match Process::run(traced(data.path(), &inject, Path::new("/dev/null"))) {
        Err((status, log)) => {
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{scene}: {log}");
            true
        }
        Ok(server) => {
            script.run(&server).await;
            let was_killed = script.failed;
            if was_killed {
                server.kill();
            } else {
                server.terminate();
            }
            was_killed
        }
    };
    if was_killed {
        figures::add("kills -9 at a system call", 1);
    }
    let server = Process::healthy(data.path());
    script.verify(&server, &scene).await;
    server.kill();
    was_killed
}

pub fn syncs_that_fail(effort: &Effort) {
    if !has_strace() {
        return;
    }
    let runtime = runtime();
    for call in ["fdatasync", "fsync"] {
        for nth in 1..=200 {
            if !effort.has_time() && nth > 4 {
                break;
            }
            if !runtime.block_on(sync_fails(call, nth)) {
                break;
            }
        }
    }
}

/// Returns whether it came to that.
async fn sync_fails(call: &str, nth: usize) -> bool {
    let scene = format!("{call} number {nth} of a thread fails");
    let data = data_folder();
    let mut script = Script::default();
    // Every thread's Nth sync fails, and no other: as on Linux, where the one after a failure reports success.
    let trace = tempfile::NamedTempFile::new().unwrap();
    let inject = format!("inject={call}:error=EIO:when={nth}");
    let has_failed = match Process::run(traced(data.path(), &inject, trace.path())) {
        Err((status, log)) => {
            assert_eq!(status.code(), Some(1), "{scene}: it does not start, and says why: {log}");
            assert!(log.contains("os error 5"), "{scene}: {log}");
            true
        }
        Ok(server) => {
            script.run(&server).await;
            assert!(!script.acknowledged_after_failure, "{scene}: an acknowledgement after a failed sync");
            if script.failed {
                let mut client = server.client().await.expect("it goes on");
                script.check(&client.all("c").await, &format!("{scene}: reads go on"));
            }
            let status = server.terminate();
            assert!(status.code().is_some(), "{scene}: it ends by itself, with {status}");
            if script.failed {
                assert_ne!(status.code(), Some(0), "{scene}: the failure shows in the exit code");
            }
            let was_injected = std::fs::read_to_string(trace.path()).unwrap().contains("INJECTED");
            let shows = script.errors > 0 || status.code() != Some(0);
            assert!(shows || !was_injected, "{scene}: nobody noticed");
            was_injected
        }
    };
    if has_failed {
        figures::add("syncs that failed", 1);
    }
    let server = Process::healthy(data.path());
    script.verify(&server, &scene).await;
    server.kill();
    has_failed
}

/// The same operations every time.
impl Script {
    async fn run(&mut self, server: &Process) {
        let Some(mut client) = server.client().await else {
            self.failed = true;
            return;
        };
        for number in 0..24_u32 {
            let mut after = self.acknowledged.clone();
            let answer = if number % 6 == 5 {
                let ids: Vec<String> = after.keys().step_by(3).cloned().collect();
                after.retain(|id, _| !ids.contains(id));
                self.sent(&after);
                client.delete("c", &ids).await
            } else {
                let mut records = Vec::new();
                for part in 0..1 + number % 4 * 10 {
                    let id = format!("s{:03}", (number * 13 + part) % 70);
                    records.push(record(&id, number * 100 + part));
                    after.insert(id, Written { number: number * 100 + part, version: None });
                }
                self.sent(&after);
                let durability = if number % 5 == 3 { pb::Durability::Buffered } else { pb::Durability::Durable };
                client.upsert("c", records, durability).await
            };
            match answer {
                Ok(_) if self.failed => self.acknowledged_after_failure = true,
                Ok(sequence) => {
                    after.values_mut().filter(|w| w.version.is_none()).for_each(|w| w.version = Some(sequence));
                    self.acknowledged = after;
                    self.sent.clear();
                    figures::add("acknowledged writes before kills", 1);
                }
                Err(status) => {
                    if status.code() == tonic::Code::Unavailable && self.is_gone(&mut client).await {
                        self.failed = true;
                        return;
                    }
                    self.errors += 1;
                    // Where creating it failed there is nothing that takes no more.
                    self.failed |= !self.is_missing(&mut client).await;
                }
            }
        }
    }

    /// After a failure nothing is written any more.
    fn sent(&mut self, after: &Records) {
        if !self.failed {
            self.sent.push(after.clone());
        }
    }

    async fn is_gone(&self, client: &mut Client) -> bool {
        client.collections.list_collections(pb::ListCollectionsRequest::default()).await.is_err()
    }

    async fn is_missing(&self, client: &mut Client) -> bool {
        let request = pb::GetCollectionRequest { name: "c".to_owned() };
        client.collections.get_collection(request).await.is_err_and(|status| status.code() == tonic::Code::NotFound)
    }

    async fn verify(&self, server: &Process, scene: &str) {
        let mut client = server.client().await.expect("the server is ready");
        let found = client.all("c").await;
        client.check_search("c", &found, scene).await;
        self.check(&found, scene);
    }

    /// What was acknowledged, or with the one operation that was on its way.
    fn check(&self, found: &BTreeMap<String, pb::Record>, scene: &str) {
        let acknowledged = compare(found, "", &self.acknowledged);
        if acknowledged.is_err() && !self.sent.iter().any(|sent| compare(found, "", sent).is_ok()) {
            panic!("{scene}: lost, or in part: {acknowledged:?}");
        }
    }
}

/// The server under strace, which runs beside it (`-D`): the child is the server itself.
fn traced(data: &Path, inject: &str, trace: &Path) -> Command {
    let plain = common::command(data, Texts::Away);
    let mut command = Command::new("strace");
    let call = inject.split(['=', ':']).nth(1).expect("inject=call:…");
    command.args(["-D", "-f", "-q", "--seccomp-bpf", "-e", &format!("trace={call}"), "-e", inject, "-o"]).arg(trace);
    command.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = plain.get_current_dir() {
        command.current_dir(folder);
    }
    command.stdout(Stdio::null());
    command
}

fn has_strace() -> bool {
    let works = Command::new("strace")
        .args(["-D", "-f", "-q", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        eprintln!("left out: accidents at system calls, because strace is not here or may not trace");
    }
    works
}

fn runtime() -> tokio::runtime::Runtime {
    // Connections go on while the test waits for the server's end, so that they can be closed.
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

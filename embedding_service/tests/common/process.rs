//! The real process, with its whole log.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to start; a slow machine is no failure.
const START_MAX: Duration = Duration::from_secs(60);

/// A running service. Killed when it is dropped.
pub struct Process {
    child: Child,
    /// Where it listens, on this machine.
    pub address: String,
    log: Arc<Mutex<String>>,
}

/// The binary, with nothing of this environment's settings, in a folder of its own, where no `.env` lies but the test's.
pub fn binary(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vectron-embedding"));
    for (name, _) in std::env::vars_os() {
        if ["VECTRON_", "HF_", "RUST_LOG"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env("HF_HOME", folder).env("NO_PROXY", "*").env("VECTRON_OFFLINE", "1");
    command
}

impl Process {
    /// Waits until it listens.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (told, address) = std::sync::mpsc::channel();
        let (lines, writing) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listens on http://") {
                    let _ = told.send(rest.split(' ').next().unwrap().replace("0.0.0.0", "127.0.0.1"));
                }
                *writing.lock().unwrap() += &format!("{line}\n");
            }
        });
        let address = address.recv_timeout(START_MAX).unwrap_or_else(|_| panic!("{}", log.lock().unwrap()));
        Self { child, address, log }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and returns all that it has logged.
    pub fn stop(mut self) -> String {
        self.send(Signal::TERM);
        self.child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        self.log()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

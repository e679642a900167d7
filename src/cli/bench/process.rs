//! A process of the same binary, which ends with this one's use for it.

use std::env;
use std::fs;
use std::process::{Child, Command};

use super::BenchError;

/// A child process. Killed when it is dropped.
pub struct Process(Child);

/// What a process holds in memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The most that was resident at once, since it started.
    pub peak_bytes: u64,
    /// What is resident now.
    pub resident_bytes: u64,
    /// The part of it that is no file's: what cannot be given back without swapping.
    pub anonymous_bytes: u64,
}

/// A command of the binary that runs.
pub fn this_binary() -> Result<Command, BenchError> {
    Ok(Command::new(env::current_exe()?))
}

impl Process {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Result<Self, BenchError> {
        Ok(Self(command.spawn()?))
    }

    /// For its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// What it holds; `None` where the system does not tell, or it has ended.
    pub fn memory(&self) -> Option<Memory> {
        read_memory(&fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.split(':').next() == Some(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory {
        peak_bytes: bytes("VmHWM")?,
        resident_bytes: bytes("VmRSS")?,
        anonymous_bytes: bytes("RssAnon")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tvectron\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\nRssFile:\t 512 kB\n";
        let expected = Memory { peak_bytes: 2 << 20, resident_bytes: 1 << 20, anonymous_bytes: 512 << 10 };
        assert_eq!(read_memory(status), Some(expected));
        assert_eq!(read_memory("Name:\tvectron\n"), None);
    }
}

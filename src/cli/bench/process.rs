//! A process of the same binary, which ends with this one's use for it.

use std::env;
use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

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

    /// Time that it had on processors so far.
    pub fn cpu_time(&self) -> Option<Duration> {
        read_cpu_time(&fs::read_to_string(format!("/proc/{}/stat", self.0.id())).ok()?)
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

/// Time that this process had on processors so far.
pub fn own_cpu_time() -> Option<Duration> {
    read_cpu_time(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// What this process holds.
pub fn own_memory() -> Option<Memory> {
    read_memory(&fs::read_to_string("/proc/self/status").ok()?)
}

fn read_cpu_time(stat: &str) -> Option<Duration> {
    // The name of the process comes before, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(Duration::from_secs_f64((user + system) as f64 / clock_ticks_per_second() as f64))
}

fn read_memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.split(':').next() == Some(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { peak_bytes: bytes("VmHWM")?, resident_bytes: bytes("VmRSS")?, anonymous_bytes: bytes("RssAnon")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_the_user_and_the_system() {
        let ticks = clock_ticks_per_second();
        let stat = format!("77 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 {ticks} {} 0 0 20 0 9 0 1 2", 2 * ticks);
        assert_eq!(read_cpu_time(&stat), Some(Duration::from_secs(3)));
        assert_eq!(read_cpu_time("77 (vectron) S 1 2"), None);
        assert!(own_cpu_time().is_some() || !cfg!(target_os = "linux"));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status =
            "Name:\tvectron\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\nRssFile:\t 512 kB\n";
        let expected = Memory { peak_bytes: 2 << 20, resident_bytes: 1 << 20, anonymous_bytes: 512 << 10 };
        assert_eq!(read_memory(status), Some(expected));
        assert_eq!(read_memory("Name:\tvectron\n"), None);
    }
}

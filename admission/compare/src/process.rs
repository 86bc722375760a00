//! The guard's program as a process of its own: as its image has it, with the policy and its own settings.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use selfhost_tests::drive;

use crate::files::{Files, Running};
use crate::pki::CLIENT;
use crate::traffic::Client;

/// How often it is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(1);

/// The program, and what it is started with.
pub struct Program {
    path: PathBuf,
    files: Files,
    /// An API server that does not answer: nothing is asked of it.
    api_server: TcpListener,
}

impl Program {
    /// The one that `$SELFHOST_ADMISSION` names, or else the one of the guard's image, which is built. It compiles the module
    /// at each start, as it does with one that is not its image's.
    pub fn new(module: &[u8]) -> Result<Self> {
        let path = drive::admission()?;
        Ok(Self { path, files: Files::new(module), api_server: TcpListener::bind("127.0.0.1:0")? })
    }

    /// The same, with the module compiled ahead of time, as it is in its image.
    pub fn ahead(module: &[u8]) -> Result<Self> {
        let program = Self::new(module)?;
        program.files.compile(&program.path);
        Ok(program)
    }

    /// Starts it, and waits until it is ready.
    pub fn start(&self) -> Result<Process> {
        let address = self.api_server.local_addr()?;
        let begun = Instant::now();
        let mut running = Running::start(&self.files, &self.path, address);
        while !running.is_ready() {
            thread::sleep(LOOK);
        }
        let ready = begun.elapsed();
        let processor = processor_time(&running)?;
        if let Some(mut log) = running.log.take() {
            // Somebody has to read it: it would wait.
            thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        }
        let client = Client::of_label(running.address, self.files.authority.client_config(CLIENT))?;
        Ok(Process { running, ready, processor, client })
    }

    /// How long it takes to load everything and to try the policy, and to end.
    pub fn check(&self) -> Result<Duration> {
        let begun = Instant::now();
        let status = self.files.command(&self.path).arg("--check").stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{} --check ended with {status}", self.path.display());
        Ok(begun.elapsed())
    }
}

/// It runs. It is killed when this is dropped.
pub struct Process {
    running: Running,
    /// How long it took from its start until it was ready.
    pub ready: Duration,
    /// What it took of processors' time until then.
    pub processor: Duration,
    /// Somebody who asks it about a label.
    pub client: Client,
}

/// What a process has in memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// At most, since it began or since [`Process::forget_peak`].
    pub peak: u64,
}

impl Process {
    /// What it has in memory.
    pub fn memory(&self) -> Result<Memory> {
        let path = file(&self.running, "status");
        memory(&read(&path)?).with_context(|| format!("{path} has no VmRSS and VmHWM"))
    }

    /// Takes what it has now for its peak.
    pub fn forget_peak(&self) -> Result<()> {
        let path = file(&self.running, "clear_refs");
        std::fs::write(&path, "5").with_context(|| format!("write {path}"))
    }
}

/// What the kernel has of a process.
fn file(running: &Running, name: &str) -> String {
    format!("/proc/{}/{name}", running.child.id())
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {path}"))
}

fn processor_time(running: &Running) -> Result<Duration> {
    let path = file(running, "stat");
    let ticks = ticks(&read(&path)?).with_context(|| format!("{path} has no utime and stime"))?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// The clock's ticks that all threads took, of the fields of `/proc/PID/stat`. The second may have spaces, in parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
}

fn memory(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes << 10)
    };
    Some(Memory { resident: field("VmRSS")?, peak: field("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_says() {
        let status = "Name:\ta\nVmHWM:\t   40960 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\n";
        assert_eq!(memory(status), Some(Memory { resident: 1 << 20, peak: 40 << 20 }));
        assert_eq!(memory("Name:\ta zombie\nVmRSS:\t 1 kB\n"), None);
        assert_eq!(memory("VmHWM:\t1 MB\nVmRSS:\t1 kB\n"), None);
    }
    #[test]
    fn processor_time_is_what_the_kernel_says() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 12 0 0 0 226 19 7 7 20 0 9 0 100 200 300";
        assert_eq!(ticks(stat), Some(245));
        assert_eq!(ticks("42 (a) S 1 42"), None);
    }
}

//! The process itself, as `/proc` and its clock show it. What cannot be read has no series.

use std::{fs, time::SystemTime};

use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};

use super::{
    Readings, States,
    table::{PROCESS_CPU, PROCESS_OPEN_FDS, PROCESS_RESIDENT_MEMORY, PROCESS_START_TIME},
};

/// This process.
#[derive(Debug)]
pub struct Process {
    started: SystemTime,
}

impl Process {
    /// It starts now.
    pub fn starting() -> Self {
        Self { started: SystemTime::now() }
    }
}

impl States for Process {
    fn read(&self, readings: &mut Readings<'_>) {
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        readings.set(&PROCESS_START_TIME, started.as_secs_f64());
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        readings.set(&PROCESS_CPU, cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        if let Some(bytes) = resident_bytes() {
            readings.set(&PROCESS_RESIDENT_MEMORY, bytes as f64);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder that is being read.
            readings.set(&PROCESS_OPEN_FDS, entries.count().saturating_sub(1) as f64);
        }
    }
}

fn resident_bytes() -> Option<usize> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let resident: usize = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(resident * page_size())
}

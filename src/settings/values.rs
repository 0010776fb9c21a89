//! The values of flags, one function for each kind: the value, or what it must be.

use std::{fs, io::Read, net::SocketAddr, path::PathBuf, time::Duration};

use clap::ValueEnum;
use jiff::SignedDuration;

use crate::{
    access::SecretsAccess,
    api::Enforcement,
    core::{
        bytes::SecretBytes,
        name::{NamespaceName, SecretName},
        policy::Rate,
    },
    lease,
    telemetry::{LogFilter, LogFormat},
};

/// Below this a key could be guessed, and with it the digest of a short secret.
const MIN_KEY_BYTES: usize = 32;
const MAX_KEY_BYTES: usize = 4096;
const MAX_WORKERS: usize = 1024;

/// A shorter lease would be lost by every small delay.
const MIN_LEASE: Duration = Duration::from_secs(2);

pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("must name the folder of the sources, such as /mnt/secrets".into()),
        text if fs::metadata(text).is_ok_and(|found| !found.is_dir()) => {
            Err("is not a folder; name the folder that the sources are mounted at".into())
        }
        text => Ok(PathBuf::from(text)),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(10)..=Duration::from_secs(3600);
    let within = parse_duration(text).filter(|duration| bounds.contains(duration));
    within.ok_or_else(|| "must be a duration from 10ms to 1h, such as 500ms, 10s or 2m".into())
}

pub(super) fn lease_duration(text: &str) -> Result<Duration, String> {
    let within = parse_duration(text).filter(|duration| (MIN_LEASE..=lease::MAX_DURATION).contains(duration));
    within.ok_or_else(|| "must be a duration from 2s to 5m, such as 12s".into())
}

fn parse_duration(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok())
}

/// A pod's name, or none.
pub(super) fn identity(text: &str) -> Result<Option<String>, String> {
    let problem = "must be a name such as that of a pod: at most 253 lower-case letters, digits, '-' and '.'";
    match text {
        "" => Ok(None),
        text => SecretName::parse(text).map(|name| Some(name.to_string())).map_err(|_| problem.into()),
    }
}

/// Reads the key. What is not a regular file is not opened: a FIFO would hang the start.
pub(super) fn key(path: &str) -> Result<SecretBytes, String> {
    const MAKE: &str = "make one with: head -c 32 /dev/urandom > FILE";
    if path.is_empty() {
        return Err(format!("is required: a file with at least {MIN_KEY_BYTES} random bytes; {MAKE}"));
    }
    match fs::metadata(path) {
        Err(error) => return Err(format!("cannot be read: {error}; {MAKE}")),
        Ok(found) if !found.is_file() => return Err(format!("is not a regular file; {MAKE}")),
        Ok(_) => {}
    }
    // With its full capacity from the start the buffer never moves, and leaves no copy behind.
    let mut bytes = Vec::with_capacity(MAX_KEY_BYTES + 1);
    let read = fs::File::open(path).and_then(|file| file.take(MAX_KEY_BYTES as u64 + 1).read_to_end(&mut bytes));
    let key = SecretBytes::new(bytes);
    match read {
        Err(error) => Err(format!("cannot be read: {error}; {MAKE}")),
        Ok(count) if count < MIN_KEY_BYTES => {
            Err(format!("has {count} bytes, and must have at least {MIN_KEY_BYTES}; {MAKE}"))
        }
        Ok(count) if count > MAX_KEY_BYTES => Err(format!("has more than {MAX_KEY_BYTES} bytes; {MAKE}")),
        Ok(_) => Ok(key),
    }
}

pub(super) fn namespace(text: &str) -> Result<NamespaceName, String> {
    NamespaceName::parse(text).map_err(|error| error.to_string())
}

/// A ServiceAccount is named as a Secret is: by a DNS subdomain.
pub(super) fn service_account(text: &str) -> Result<String, String> {
    let problem = "must be the name of a ServiceAccount: at most 253 lower-case letters, digits, '-' and '.'";
    SecretName::parse(text).map(|name| name.to_string()).map_err(|_| problem.into())
}

pub(super) fn annotation(text: &str) -> Result<String, String> {
    let fits = !text.trim().is_empty() && text.len() <= 253 && !text.chars().any(char::is_control);
    fits.then(|| text.into()).ok_or_else(|| "must be 1 to 253 characters of text, without control characters".into())
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".into())
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".into())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    LogFormat::from_str(text, true).map_err(|_| "must be json or text".into())
}

pub(super) fn log_filter(text: &str) -> Result<LogFilter, String> {
    LogFilter::parse(text).map_err(|error| {
        format!("{error}; must be error, warn, info, debug or trace, or directives such as info,kube_runtime=debug")
    })
}

pub(super) fn secrets_access(text: &str) -> Result<SecretsAccess, String> {
    SecretsAccess::parse(text).ok_or_else(|| "must be watch or writeOnly".into())
}

pub(super) fn enforcement(text: &str) -> Result<Enforcement, String> {
    match text {
        "Enforce" => Ok(Enforcement::Enforce),
        "Audit" => Ok(Enforcement::Audit),
        _ => Err("must be Enforce or Audit".into()),
    }
}

pub(super) fn resync_interval(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    let within = parse_duration(text).filter(|duration| bounds.contains(duration));
    within.ok_or_else(|| "must be a duration from 1s to 24h, such as 30s, 10m or 1h".into())
}

pub(super) fn workers(text: &str) -> Result<usize, String> {
    let parsed = text.parse().ok().filter(|count| (1..=MAX_WORKERS).contains(count));
    parsed.ok_or_else(|| format!("must be a number from 1 to {MAX_WORKERS}"))
}

pub(super) fn burst(text: &str) -> Result<u32, String> {
    let parsed = text.parse().ok().filter(|burst| (1..=100_000).contains(burst));
    parsed.ok_or_else(|| "must be a number from 1 to 100000".into())
}

pub(super) fn rate(text: &str, burst: u32) -> Result<Rate, String> {
    let parsed = text.split_once('/').and_then(|(writes, per)| {
        let writes = writes.parse().ok().filter(|writes| (1..=100_000).contains(writes))?;
        Rate::new(writes, duration(per).ok()?, burst)
    });
    parsed.ok_or_else(|| "must be writes/time, such as 600/1m: 1 to 100000 writes in a time from 10ms to 1h".into())
}

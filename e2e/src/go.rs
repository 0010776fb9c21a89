//! Programs that are built from Go modules, and kept in the user's cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cache;
use crate::process::{Process, ending, guarded};
use crate::progress::narrated;

/// File name and Go package.
pub(crate) type Program = (&'static str, &'static str);

/// The variable that the programs of Kubernetes tell as their version.
pub(crate) const KUBERNETES_VERSION: &str = "k8s.io/component-base/version.gitVersion";

/// A Go module of ours that pins programs.
pub(crate) struct Pins {
    /// What is built of it, for messages.
    pub(crate) what: &'static str,
    /// Its `go.mod`.
    pub(crate) go_mod: &'static str,
    /// Its `go.sum`.
    pub(crate) go_sum: &'static str,
    /// The module whose version is that of the programs.
    pub(crate) module: &'static str,
    /// Build tags, separated by commas.
    pub(crate) tags: &'static str,
    /// What the name of its folder in the cache begins with.
    pub(crate) folder: &'static str,
    /// What to do instead of building.
    pub(crate) ways_around: &'static str,
}

/// The folder of the programs of exactly these versions, built exactly so.
pub(crate) struct Cache {
    pins: &'static Pins,
    folder: PathBuf,
    flags: Vec<String>,
}

impl Cache {
    /// `set`: a variable of the programs that is to hold their version.
    pub(crate) fn open(pins: &'static Pins, set: Option<&str>) -> Result<Self> {
        let version = pins.version()?;
        let set = set.map(|variable| format!(" -X {variable}={version}")).unwrap_or_default();
        let ldflags = format!("-s -w{set}");
        let mut flags = vec!["-trimpath", "-buildvcs=false", "-ldflags", &ldflags];
        if !pins.tags.is_empty() {
            flags.extend(["-tags", pins.tags]);
        }
        let flags: Vec<_> = flags.into_iter().map(str::to_owned).collect();
        let digest = cache::digest(&[pins.go_mod, pins.go_sum, &flags.join(" ")]);
        let folder = cache::folder()?.join(format!("{}{version}-{digest}", pins.folder));
        Ok(Self { pins, folder, flags })
    }

    /// Where the program is, or will be once it is built.
    pub(crate) fn find(&self, (name, _): Program, assets: Option<&Path>) -> PathBuf {
        let given = assets.map(|assets| assets.join(name)).filter(|path| path.is_file());
        given.unwrap_or_else(|| self.folder.join(name))
    }

    /// Builds what is neither given nor built yet. Of several processes, one builds.
    pub(crate) async fn build_missing(&self, wanted: &[Program], assets: Option<&Path>) -> Result<()> {
        let missing =
            || wanted.iter().copied().filter(|&program| !self.find(program, assets).is_file()).collect::<Vec<_>>();
        if missing().is_empty() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot create {}", self.folder.display()))?;
        let lock = File::create(self.folder.join("lock"))?;
        narrated("waiting for another process that builds the programs", cache::locked(&lock)).await?;
        let missing = missing();
        if missing.is_empty() {
            return Ok(());
        }
        let module = Module::create(self.pins, self.folder.join("building"))?;
        check_go(self.pins, &module.0)?;
        for (i, program) in missing.iter().enumerate() {
            let what = format!("building {} ({} of {})", program.0, i + 1, missing.len());
            narrated(&what, self.build(*program, &module.0)).await?;
        }
        Ok(())
    }

    async fn build(&self, (name, package): Program, building: &Path) -> Result<()> {
        let mut command = guarded(Path::new("go"))?;
        command.arg("build").args(&self.flags).args(["-o", name, package]);
        command.current_dir(building).envs(go_environment(building));
        let mut go = Process::start(&format!("go build {package}"), command, &building.join("log"))?;
        let status = loop {
            if let Some(status) = go.wait(Duration::from_secs(1)).await? {
                break status;
            }
        };
        ensure!(status.success(), "{} {}:\n{}\n{}", go.name(), ending(status), go.log_tail(20), self.pins.ways_around);
        // Appears whole or not at all.
        Ok(fs::rename(building.join(name), self.folder.join(name))?)
    }
}

/// The program that the variable names, or one that is built.
pub(crate) async fn given_or_built(variable: &str, pins: &'static Pins, program: Program) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(variable).filter(|given| !given.is_empty()) {
        return Ok(given.into());
    }
    let cache = Cache::open(pins, None)?;
    cache.build_missing(&[program], None).await?;
    Ok(cache.find(program, None))
}

/// The Go module in which the build runs. Dropped: removed.
struct Module(PathBuf);

impl Module {
    fn create(pins: &Pins, folder: PathBuf) -> Result<Self> {
        // Whatever a build left that was killed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("tmp"))?;
        fs::write(folder.join("go.mod"), pins.go_mod)?;
        fs::write(folder.join("go.sum"), pins.go_sum)?;
        Ok(Self(folder))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // What cannot be removed now is removed before the next build.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the build depends on, and only that; temporary files where an interrupted build is cleaned up.
fn go_environment(building: &Path) -> [(&'static str, std::ffi::OsString); 4] {
    [
        ("CGO_ENABLED", "0".into()),
        ("GOFLAGS", "".into()),
        ("GOWORK", "off".into()),
        ("GOTMPDIR", building.join("tmp").into_os_string()),
    ]
}

/// A Go that is new enough, or that fetches one that is.
fn check_go(pins: &Pins, module: &Path) -> Result<()> {
    let needed = pins.pinned("go ")?;
    let Pins { what, ways_around, .. } = pins;
    let install = format!(
        "Install it: curl -fsSL https://go.dev/dl/go{needed}.linux-$(dpkg --print-architecture).tar.gz | \
         tar -C /usr/local -xz && export PATH=$PATH:/usr/local/go/bin\n{ways_around}"
    );
    let mut command = Command::new("go");
    command.args(["env", "GOVERSION"]).current_dir(module).envs(go_environment(module));
    let output = match command.output() {
        Err(error) => bail!("Go {needed} or newer is needed to build {what}: `go`: {error}.\n{install}"),
        Ok(output) => output,
    };
    let version = String::from_utf8_lossy(&output.stdout);
    let found = numbers(version.trim().trim_start_matches("go"));
    if !output.status.success() || found < numbers(needed) {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("Go {needed} or newer is needed to build {what}: {}{}.\n{install}", version.trim(), told.trim());
    }
    Ok(())
}

/// `1.26.0` as numbers; a suffix such as `rc1` counts as nothing.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

impl Pins {
    fn version(&self) -> Result<&'static str> {
        self.pinned(&format!("{} ", self.module))
    }

    /// What follows `key` at the start of a line of go.mod.
    fn pinned(&self, key: &str) -> Result<&'static str> {
        let mut lines = self.go_mod.lines().map(|line| line.trim_start().trim_start_matches("require "));
        let line = lines.find_map(|line| line.strip_prefix(key)).and_then(|rest| rest.split(' ').next());
        line.with_context(|| format!("the go.mod of {} pins no `{key}`", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_come_from_go_mod() {
        let go_mod =
            "go 1.26.0\n\nrequire example.org/one v1.2.3\n\nrequire (\n\texample.org/other v1.0.0 // indirect\n)\n";
        let (what, go_sum, tags, folder, ways_around) = ("one", "", "", "", "");
        let pins = Pins { what, go_mod, go_sum, module: "example.org/one", tags, folder, ways_around };
        assert_eq!(pins.version().unwrap(), "v1.2.3");
        assert_eq!(pins.pinned("example.org/other ").unwrap(), "v1.0.0");
        assert_eq!(numbers(pins.pinned("go ").unwrap()), [1, 26, 0]);
        assert!(pins.pinned("example.org/absent ").is_err());
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("1.9.1") < numbers("1.26.0"));
        assert!(numbers("1.26.8") >= numbers("1.26.0"));
    }
}

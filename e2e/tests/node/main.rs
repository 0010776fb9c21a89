//! The chart on a real node: a kubelet, a container runtime, the image that `make image` builds. Run it with
//! `make test-node`, which brings what it needs; it does not skip where that is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod installed;
mod world;

use std::path::Path;

use anyhow::Result;

use world::World;

/// One node, one story: each step goes on where the one before has ended.
#[tokio::test]
async fn from_install_to_reinstall() -> Result<()> {
    let world = World::start().await?;
    let told = installed::story(&world).await;
    if told.is_err() {
        eprintln!("{}", world.state().await);
    }
    let folder = world.cluster.directory().to_owned();
    drop(world);
    told?;
    assert_eq!(what_is_left(&folder), Vec::<String>::new());
    Ok(())
}

/// Of what a node makes: mounts, cgroups, the folder. A cgroup with a process in it would be left.
fn what_is_left(folder: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(&*folder.to_string_lossy())).map(str::to_owned);
    let cgroup = format!("secrets-distributor-e2e-{}", std::process::id());
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let cgroups =
        hierarchies.map(|hierarchy| hierarchy.join(&cgroup)).chain([Path::new("/sys/fs/cgroup").join(&cgroup)]);
    let paths = cgroups.chain([folder.to_owned()]).filter(|path| path.exists());
    mounts.chain(paths.map(|path| path.display().to_string())).collect()
}

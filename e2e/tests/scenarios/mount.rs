//! The mount itself goes wrong, or is no mount but a folder: each on a site of its own.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{fs::PermissionsExt, fs::symlink, net::UnixListener},
    path::Path,
};

use anyhow::Result;
use e2e::{
    Mount, PlainFolder,
    site::{Site, Tenant, version},
};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;

fn one(source: &str) -> serde_json::Value {
    json!({ "secrets": [{ "from": source, "to": "k" }] })
}

/// Something that is not a source to read, put at a path; the reason and the words that tell it.
type Obstacle = (fn(&Path) -> io::Result<()>, &'static str, &'static str);

const OBSTACLES: [Obstacle; 8] = [
    (|at| fs::create_dir(at), "SourceUnreadable", "it is a directory, not a file"),
    (|at| Ok(mkfifoat(CWD, at, Mode::RUSR)?), "SourceUnreadable", "it is a FIFO, not a regular file"),
    (|at| UnixListener::bind(at).map(drop), "SourceUnreadable", "it is a socket, not a regular file"),
    (|at| symlink("../outside", at), "SourceUnreadable", "a symlink leaves the folder it is in"),
    (|at| symlink("/etc/hostname", at), "SourceUnreadable", "a symlink leaves the folder it is in"),
    (|at| symlink(at.file_name().unwrap(), at), "SourceUnreadable", "symlinks lead in a circle"),
    (|at| fs::write(at, vec![b'x'; 2 << 20]), "SourceTooLarge", "has 2097152 bytes"),
    (
        |at| fs::write(at, "x").and_then(|()| fs::set_permissions(at, Permissions::from_mode(0o000))),
        "SourceUnreadable",
        "permission denied: the operator's user needs read permission",
    ),
];

#[tokio::test]
async fn a_plain_folder_serves_regular_files_and_nothing_else() -> Result<()> {
    let folder = PlainFolder::new()?;
    folder.write("Victim", "first")?;
    folder.write("Neighbour", "first")?;
    fs::write(folder.path().with_file_name("outside"), "outside")?;
    let site = Site::prepare().await?.configured(|mut config| {
        config.secrets_path = folder.path().to_owned();
        config.obeys_permissions = true;
        config
    });
    site.start_operator().await?;
    let tenant = site.tenant("plain").await?;
    tenant.grant(&["Victim", "Neighbour"]).await?;
    tenant.request("victim", one("Victim")).await?;
    tenant.request("neighbour", one("Neighbour")).await?;
    let mut secret = tenant.until_content("victim", "k", b"first").await?;

    let victim = folder.path().join("Victim");
    for (round, (obstruct, reason, told)) in OBSTACLES.into_iter().enumerate() {
        fs::remove_file(&victim)?;
        obstruct(&victim)?;
        let message = tenant.until_condition("victim", "Synced", "False", reason).await?;
        assert!(message.contains(told), "{told}: {message}");
        assert_eq!(version(&tenant.secret("victim").await?.unwrap())?, version(&secret)?, "{told}");
        let content = format!("round {round}");
        folder.write("Neighbour", &content)?;
        tenant.until_content("neighbour", "k", content.as_bytes()).await?;

        fs::remove_dir(&victim).or_else(|_| fs::remove_file(&victim))?;
        folder.write("Victim", &content)?;
        secret = tenant.until_content("victim", "k", content.as_bytes()).await?;
        tenant.until_ready("victim").await?;
    }
    Ok(())
}

/// Two requests, one of the mount itself and one of a mount in a folder of it.
struct Served<'a> {
    tenant: Tenant<'a>,
    versions: [String; 2],
}

const REQUESTS: [&str; 2] = ["top", "inner"];

impl<'a> Served<'a> {
    async fn begin(site: &'a Site) -> Result<Self> {
        let tenant = site.tenant("mount").await?;
        tenant.grant(&["Top", "kv/prod/Inner"]).await?;
        tenant.request("top", one("Top")).await?;
        tenant.request("inner", one("kv/prod/Inner")).await?;
        let top = version(&tenant.until_content("top", "k", b"top").await?)?;
        let inner = version(&tenant.until_content("inner", "k", b"inner").await?)?;
        Ok(Self { tenant, versions: [top, inner] })
    }

    /// Nothing was written or deleted.
    async fn assert_untouched(&self, what: &str) -> Result<()> {
        for (request, before) in REQUESTS.iter().zip(&self.versions) {
            let secret = self.tenant.secret(request).await?;
            assert_eq!(&version(&secret.unwrap())?, before, "{what}: {request}");
        }
        Ok(())
    }

    /// Nothing can be said, and so nothing is taken away.
    async fn until_unknown(&self, told: &str) -> Result<()> {
        for request in REQUESTS {
            let message = self.tenant.until_condition(request, "Synced", "Unknown", "SourcesNotReady").await?;
            assert!(message.contains(told) && message.contains("Secrets stay as they are"), "{message}");
            self.tenant.until_condition(request, "Permitted", "True", "Granted").await?;
        }
        self.tenant.site.until_readyz(503, "sources: failed: ").await?;
        self.assert_untouched(told).await
    }

    async fn until_well(&self, what: &str) -> Result<()> {
        self.tenant.site.until_readyz(200, "sources: ready").await?;
        for request in REQUESTS {
            self.tenant.until_ready(request).await?;
        }
        self.assert_untouched(what).await
    }
}

#[tokio::test]
async fn a_mount_that_is_gone_takes_nothing_away() -> Result<()> {
    let site = Site::prepare().await?.configured(|mut config| {
        config.obeys_permissions = true;
        config
    });
    let (top, root) = (site.sources.mount(), site.sources.mount().path());
    let inner = Mount::at(root.join("kv/prod"))?;
    let fill = || top.write(&[("Top", "top")]).and_then(|()| inner.write(&[("Inner", "inner")]));
    let empty = || top.write::<&str, &str>(&[]).and_then(|()| inner.write::<&str, &str>(&[]));
    fill()?;
    site.start_operator().await?;
    let served = Served::begin(&site).await?;

    inner.write::<&str, &str>(&[])?;
    let message = served.tenant.until_condition("inner", "Synced", "Unknown", "SourcesNotReady").await?;
    assert!(message.contains("source kv/prod/Inner is in a folder that holds no source at all"), "{message}");
    served.tenant.until_ready("top").await?;
    fill()?;
    served.until_well("the inner mount is back").await?;

    empty()?;
    served.until_unknown("the mounted folder holds no source at all").await?;
    fill()?;
    served.until_well("both are back").await?;

    let away = root.with_file_name("away");
    fs::rename(root, &away)?;
    served.until_unknown("the mounted folder does not exist").await?;
    fs::rename(&away, root)?;
    served.until_well("the folder is back").await?;

    fs::set_permissions(root, Permissions::from_mode(0o000))?;
    served.until_unknown("the mounted folder cannot be read: permission denied").await?;
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    served.until_well("the folder can be read again").await?;

    empty()?;
    site.kill_operator()?;
    site.launch_operator().await?;
    site.until_readyz(503, "sources: failed: the mounted folder holds no source at all").await?;
    served.until_unknown("the mounted folder holds no source at all").await?;
    fill()?;
    served.until_well("the restarted operator has its sources").await
}

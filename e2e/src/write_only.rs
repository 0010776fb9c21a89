//! A site whose operator may write Secrets and not read them.

use anyhow::Result;

use crate::{repository, site::Site};

impl Site {
    /// All of it but the operator; tenants delegate by the role of this mode.
    pub async fn prepare_write_only(resync_interval: &str) -> Result<Self> {
        let mut site = Self::prepare().await?;
        site.cluster.apply_path(&repository().join("rbac/write-only")).await?;
        site.delegation = "write-only/delegation";
        let resync_interval = format!("--resync-interval={resync_interval}");
        Ok(site.configured(|config| config.argument("--secrets-access=writeOnly").argument(&resync_interval)))
    }
}

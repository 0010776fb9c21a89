//! The operator, and who goes on when it is killed.

use std::cell::{Cell, RefCell};

use anyhow::Result;
use e2e::Operator;
use e2e::proxy::Proxy;
use e2e::site::Site;

/// The operator as it runs, alone or with a replica on standby.
pub struct Replicas<'a> {
    pub site: &'a Site,
    pub proxy: &'a Proxy,
    standby: RefCell<Option<Operator>>,
    /// How many there were: a killed one's name is not used again, or its successor would pass for it.
    started: Cell<usize>,
}

impl<'a> Replicas<'a> {
    /// It is started again when it is killed.
    pub fn alone(site: &'a Site, proxy: &'a Proxy) -> Self {
        Self { site, proxy, standby: RefCell::default(), started: Cell::new(1) }
    }

    /// Another one takes over when it is killed.
    pub async fn with_standby(site: &'a Site, proxy: &'a Proxy) -> Result<Self> {
        let replicas = Self::alone(site, proxy);
        replicas.start_standby().await?;
        Ok(replicas)
    }

    async fn start_standby(&self) -> Result<()> {
        let pod = format!("operator-{}", self.started.replace(self.started.get() + 1));
        let standby = self.site.start_replica(&pod).await?;
        self.standby.replace(Some(standby));
        Ok(())
    }

    /// Kills the one that leads, with what it has sent and the proxy holds; then does what is to be done while nobody
    /// leads, and sees that somebody goes on.
    pub async fn kill(&self, meanwhile: impl FnOnce()) -> Result<()> {
        let successor = self.standby.take();
        let succeeds = successor.is_some();
        match successor {
            Some(successor) => self.site.replace_operator(successor)?,
            None => self.site.kill_operator()?,
        }
        // What was held and not forwarded is gone with the one who sent it.
        self.proxy.disconnect();
        meanwhile();
        match succeeds {
            true => self.start_standby().await,
            false => self.site.launch_operator().await,
        }
    }
}

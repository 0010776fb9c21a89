//! The operator, and who goes on when it is killed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::Result;
use e2e::Operator;
use e2e::proxy::Proxy;
use e2e::site::Site;

use crate::run::tell;

/// The operator as it runs, alone or with a replica on standby.
pub struct Replicas<'a> {
    pub site: &'a Site,
    pub proxy: &'a Proxy,
    standby: RefCell<Option<Operator>>,
    /// How many there were: a killed one's name is not used again, or its successor would pass for it.
    started: Cell<usize>,
    /// How many were killed.
    pub deaths: Rc<Cell<usize>>,
}

impl<'a> Replicas<'a> {
    /// It is started again when it is killed.
    pub fn alone(site: &'a Site, proxy: &'a Proxy) -> Self {
        Self { site, proxy, standby: RefCell::default(), started: Cell::new(1), deaths: Rc::default() }
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

    /// Waits until somebody leads. That need not be the one that was on standby when its leader was killed: once the
    /// Lease has run out it belongs to whoever asks first, and one that was started at once has watched it for almost as
    /// long.
    pub async fn until_led(&self) -> Result<()> {
        let led = self.site.until_readyz(200, "leader: leading");
        let Some(standby) = self.standby.take() else { return led.await.map(drop) };
        let leads = tokio::select! {
            led = led => led.map(|_| false),
            leads = standby.until_role("leading") => leads.map(|()| true),
        };
        if leads? {
            tell("the replica that was started last leads");
            self.site.replace_operator(standby)?;
            return self.start_standby().await;
        }
        self.standby.replace(Some(standby));
        Ok(())
    }

    /// Kills the one that leads, with what it has sent and the proxy holds; then does what is to be done while nobody
    /// leads, and sees that somebody goes on.
    pub async fn kill(&self, meanwhile: impl FnOnce()) -> Result<()> {
        let succeeds = self.standby.borrow().is_some();
        if succeeds {
            self.until_led().await?;
        }
        let successor = self.standby.take();
        match successor {
            Some(successor) => self.site.replace_operator(successor)?,
            None => self.site.kill_operator()?,
        }
        self.deaths.set(self.deaths.get() + 1);
        // What was held and not forwarded is gone with the one who sent it.
        self.proxy.disconnect();
        meanwhile();
        match succeeds {
            true => self.start_standby().await,
            false => self.site.launch_operator().await,
        }
    }
}

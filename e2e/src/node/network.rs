//! The ways in and out of the network of the node, which has no others: out to the API server, in to pods and Services.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::ControlPlane;
use crate::proxy::FreezableProxy;

const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// Makes the API server reachable in the network of a process, at its own port.
pub(super) fn api_server(process: u32, cluster: &ControlPlane) -> Result<FreezableProxy> {
    let port = api_server_port(cluster)?;
    let listener = within(process, move || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?))?;
    FreezableProxy::behind(listener, &format!("127.0.0.1:{port}"))
}

/// A connection to what listens in the network of a process.
pub(super) fn connect(process: u32, address: SocketAddr) -> Result<tokio::net::TcpStream> {
    let stream = within(process, move || Ok(TcpStream::connect_timeout(&address, CONNECTED_WITHIN)?))?;
    stream.set_nonblocking(true)?;
    Ok(tokio::net::TcpStream::from_std(stream)?)
}

pub(super) fn api_server_port(cluster: &ControlPlane) -> Result<u16> {
    let server = cluster.access().clusters.first().and_then(|named| named.cluster.as_ref()?.server.as_ref());
    let server: http::Uri = server.context("a kubeconfig without a server")?.parse()?;
    server.port_u16().context("the address of the API server has no port")
}

/// A socket is in the network in which it was made, whoever uses it. The thread that moves there never comes back.
fn within<S: Send + 'static>(process: u32, make: impl FnOnce() -> Result<S> + Send + 'static) -> Result<S> {
    let network = File::open(format!("/proc/{process}/ns/net")).context("the node has no network")?;
    let moved = thread::spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        make()
    });
    moved.join().map_err(|_| anyhow!("the thread in the network of the node has failed"))?
}

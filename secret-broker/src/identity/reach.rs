//! Whom this broker may reach for keys: public addresses, and private ones that the operator named.
//!
//! An issuer's name is looked up anew for each fetch, so that whoever answers for it decides where the broker connects to. The check is
//! made on the addresses that the look-up gave, and these are the ones that are connected to: a name that pointed to a public
//! address before and to the metadata service now reaches neither that service nor anything else inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde::Deserialize;
use url::{Host, Url};

/// A network such as `10.20.0.0/16`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        IpNet::from_str(&text)
            .or_else(|_| IpAddr::from_str(&text).map(IpNet::from))
            .map(Self)
            .map_err(|_| format!("`{text}` is no network; write it as 10.20.0.0/16 or as one address"))
    }
}

impl Network {
    /// Whether an address may be reached: a public one, or one of these networks'.
    #[must_use]
    pub fn permit(networks: &[Self], address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || networks.iter().any(|network| network.0.contains(&address))
    }
}

/// Where a fetch may go.
#[derive(Debug, Clone)]
pub enum Reach {
    /// To services of the operator's own cluster, which are at private addresses.
    Own,
    /// To public addresses and these networks.
    Public(Vec<Network>),
}

/// Whether an address may be fetched at all: TLS, or this very host.
#[must_use]
pub fn is_safe_target(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(_) => literal(url).is_some_and(|address| address.is_loopback()),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

/// The address that a URL gives as a number instead of a name.
#[must_use]
pub fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(IpAddr::from(address).to_canonical()),
    }
}

/// Looks names up and leaves out addresses that may not be reached.
#[derive(Debug)]
pub struct Guarded {
    networks: Arc<[Network]>,
}

impl Guarded {
    /// For public addresses and these networks.
    #[must_use]
    pub fn new(networks: &[Network]) -> Self {
        Self {
            networks: networks.into(),
        }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = Arc::clone(&self.networks);
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?;
            let permitted = permitted(name, found, &networks)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

fn permitted(
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
    networks: &[Network],
) -> Result<Vec<SocketAddr>, String> {
    let (permitted, refused): (Vec<_>, Vec<_>) = found.partition(|address| {
        Network::permit(networks, address.ip()) || (name == "localhost" && address.ip().is_loopback())
    });
    match refused.first() {
        Some(address) if permitted.is_empty() => Err(format!(
            "{name} is at {}, which is no public address; list its network in private_networks if that is right",
            address.ip()
        )),
        _ => Ok(permitted),
    }
}

/// Whether an address is somebody's on the public Internet (IANA's registries of special-purpose addresses, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 224)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Of 2000::/3 without protocols' own addresses (Teredo among them), examples, and those that hold an IPv4 address.
    (0x2000..0x4000).contains(&a)
        && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_unless_they_are_named() {
        for text in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "fe80::1",
            "fd00:ec2::254",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "ff02::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert!(!Network::permit(&[], address), "{text}");
            assert!(
                Network::permit(&[network(&address.to_canonical().to_string())], address),
                "{text}"
            );
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
        ] {
            assert!(Network::permit(&[], text.parse().unwrap()), "{text}");
        }
        assert!(Network::permit(
            &[network("10.20.0.0/16")],
            "10.20.3.4".parse().unwrap()
        ));
        assert!(!Network::permit(
            &[network("10.20.0.0/16")],
            "10.21.3.4".parse().unwrap()
        ));
        assert!(Network::try_from("10.20".to_owned()).is_err());
    }

    #[test]
    fn a_name_is_judged_by_the_addresses_that_are_connected_to() {
        let at = |texts: &[&str]| {
            let found: Vec<SocketAddr> = texts
                .iter()
                .map(|t| SocketAddr::new(t.parse().unwrap(), 0))
                .collect();
            found.into_iter()
        };
        let ask = |name: &str, texts: &[&str]| {
            permitted(name, at(texts), &[])
                .map(|found| found.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(ask("idp.example", &["1.1.1.1"]).unwrap(), ["1.1.1.1"]);
        // The same name a moment later, and a name that mixes them.
        assert!(
            ask("idp.example", &["169.254.169.254"])
                .unwrap_err()
                .contains("private_networks")
        );
        assert_eq!(ask("idp.example", &["10.0.0.1", "1.1.1.1"]).unwrap(), ["1.1.1.1"]);
        assert!(ask("idp.example", &["127.0.0.1", "::1"]).is_err());
        assert!(ask("localhost", &["127.0.0.1"]).is_ok());
    }

    #[tokio::test]
    async fn the_look_up_itself_refuses_this_host_under_another_name() {
        let own = Guarded::new(&[]);
        let Err(error) = own.resolve("ip6-localhost".parse().unwrap()).await else {
            panic!("an alias of this host was let through");
        };
        assert!(!error.to_string().is_empty());
        assert!(own.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}

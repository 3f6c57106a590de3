//! What the kernel knows of a TCP connection: whether the other machine still answers.
//!
//! Asked through [`super::Connection`] by [`super::producer`] when receipts have been missing for long. A broker that
//! holds its senders back looks like one that is gone to everything above TCP; but its kernel answers each probe, and
//! that of a lost machine answers none. Linux tells in `/proc/net/tcp` how often it has tried in vain (proc_pid_net(5)); elsewhere nothing is known.

use std::{fs, net::SocketAddr};

/// How many times in a row the kernel has sent something to the peer that was not answered; none where it does not tell.
pub(super) fn unanswered(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    // An IPv4 connection of an IPv6 socket stands in the second table.
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| find(&fs::read_to_string(table).ok()?, local, peer))
}

/// Looks a connection up in a table. Its columns: number, local and remote address, state, queues, timer, unanswered
/// retransmissions, user, unanswered probes, and more.
fn find(table: &str, local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let (local, peer) = (written(local), written(peer));
    let mut lines = table.lines().map(|line| line.split_ascii_whitespace().skip(1));
    let mut rest = lines.find_map(|mut fields| {
        let is_it = fields.next()? == local && fields.next()? == peer;
        is_it.then_some(fields)
    })?;
    let resent = u64::from_str_radix(rest.nth(3)?, 16).ok()?;
    let probes: u64 = rest.nth(1)?.parse().ok()?;
    Some(resent.max(probes))
}

/// An address as the tables write it: each word of 32 bits as the machine has it in memory, then the port.
fn written(address: SocketAddr) -> String {
    let word = |bytes: &[u8; 4]| format!("{:08X}", u32::from_ne_bytes(*bytes));
    let ip: String = match address.ip() {
        std::net::IpAddr::V4(ip) => word(&ip.octets()),
        std::net::IpAddr::V6(ip) => ip.octets().as_chunks::<4>().0.iter().map(word).collect(),
    };
    format!("{ip}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:A59B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1129279 1 00000000 100
   1: 0100007F:9920 0100007F:A59B 01 00000005:00000000 01:0000001F 0000000B     0        0 1129280 2 00000000 80
   2: 0100007F:9921 0100007F:A59B 01 00000005:00000000 04:0000001F 00000000     0       12 1129281 2 00000000 80
   3: 00000000000000000000000001000000:9922 00000000000000000000000001000000:A59B 01 0:0 00:0 00000002 0 0 7
";

    #[cfg(target_endian = "little")]
    #[test]
    fn a_connection_is_found_by_both_addresses() {
        let count = |local: &str, peer: &str| find(TABLE, local.parse().unwrap(), peer.parse().unwrap());
        assert_eq!(count("127.0.0.1:39200", "127.0.0.1:42395"), Some(11), "sent again");
        assert_eq!(count("127.0.0.1:39201", "127.0.0.1:42395"), Some(12), "probes of a closed window");
        assert_eq!(count("[::1]:39202", "[::1]:42395"), Some(2));
        assert_eq!(count("127.0.0.1:39203", "127.0.0.1:42395"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_living_peer_answers() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(unanswered(stream.local_addr().unwrap(), stream.peer_addr().unwrap()), Some(0));
    }
}

//! Counts the TCP connections of a port from outside the product.

use std::fs;

use crate::Result;

/// Returns how many connections with the local port `port` are established.
///
/// Both ends of a loopback connection are in the kernel's tables. The local port selects the
/// server's end, so that each connection counts once.
pub fn established(port: u16) -> Result<usize> {
    let v4 = fs::read_to_string("/proc/net/tcp").map_err(|error| error.to_string())?;
    // The file is missing if the kernel has no IPv6.
    let v6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    Ok(count(&v4, port) + count(&v6, port))
}

/// The kernel's number for the state ESTABLISHED.
const ESTABLISHED: &str = "01";

fn count(table: &str, port: u16) -> usize {
    let port = format!("{port:04X}");
    table
        .lines()
        .skip(1)
        .filter(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().and_then(|local| local.rsplit(':').next());
            local == Some(port.as_str()) && fields.nth(1) == Some(ESTABLISHED)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_the_servers_end_of_established_connections() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
            0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000\n   \
            1: 0100007F:0BB8 0100007F:9C40 01 00000000:00000000\n   \
            2: 0100007F:9C40 0100007F:0BB8 01 00000000:00000000\n   \
            3: 0100007F:0BB8 0100007F:9C41 06 00000000:00000000\n";
        assert_eq!(count(table, 3000), 1);
    }
}

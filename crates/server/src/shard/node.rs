//! How a session's id names its shard and its node.

use tabmux_core::wire::SessionId;

/// The number of a server among those of one address: `node` of the configuration. A session's id
/// begins with one byte for its shard and two bytes for its node, the higher byte first. Then
/// follows what the registry writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node(pub(crate) u16);

impl Node {
    /// Writes the shard and this node into what becomes a session's id.
    pub(crate) fn name(self, shard: usize, id: &mut [u8; 32]) {
        id[0] = shard as u8;
        id[1..3].copy_from_slice(&self.0.to_be_bytes());
    }

    /// Returns the number of the shard that a session's id names. Returns nothing if the id names
    /// another node.
    pub(crate) fn shard(self, SessionId(id): SessionId) -> Option<usize> {
        let [shard, high, low, ..] = id;
        (Self(u16::from_be_bytes([high, low])) == self).then_some(shard.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_shard_to_its_own_node_alone() {
        for node in [0, 1, 255, 256, 65_535] {
            let mut entropy = [0xa5; 32];
            Node(node).name(200, &mut entropy);
            assert_eq!(entropy[3..], [0xa5; 29], "the rest is left random");
            let mut id = SessionId([0; 16]);
            id.0.copy_from_slice(&entropy[..16]);
            assert_eq!(Node(node).shard(id), Some(200));
            for other in [1, 0x100, 0xffff] {
                assert_eq!(Node(node ^ other).shard(id), None, "{node}");
            }
        }
    }
}

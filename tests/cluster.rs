//! A Redis Cluster of the test's own.

#![cfg(feature = "redis")]

#[path = "support/redis_cluster.rs"]
mod redis_cluster;
#[path = "support/redis_server.rs"]
mod redis_server;
mod support;

use redis_cluster::start_cluster;

// The tests of the hub rely on it: an operator's orders have the effect that they should have.
#[test]
fn a_cluster_fails_over_and_moves_slots() {
    let Some(mut cluster) = start_cluster(&[]) else {
        return;
    };
    let slot = 12739;
    assert_eq!(cluster.master_of(slot), 2);
    assert_eq!(cluster.replica_of(slot), 5);
    assert_eq!(cluster.command(slot, &["SET", "123456789", "kept"]), "OK");
    cluster.fail_over(slot);
    assert_eq!(cluster.master_of(slot), 5);
    cluster.migrate(slot, 0);
    assert_eq!(cluster.command(slot, &["GET", "123456789"]), "kept");
    cluster.wait_until_whole();
    cluster.kill(0);
    cluster.wait_until_whole();
    assert_eq!(cluster.master_of(slot), 3);
    assert_eq!(cluster.command(slot, &["GET", "123456789"]), "kept");
}

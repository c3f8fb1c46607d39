mod ahead;
mod damage;
mod rig;
mod writing;

use crate::conformance::wal_suite;

#[test]
fn the_file_log_conforms() {
    wal_suite(&rig::Disk::new(|_| {}));
}

#[test]
fn the_file_log_conforms_with_tiny_files_and_commits() {
    wal_suite(&rig::Disk::new(|options| {
        (options.file_len, options.first_file_len) = (16 << 10, 8 << 10);
        options.commit_len = 200;
    }));
}

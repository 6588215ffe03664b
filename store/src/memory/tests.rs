use super::*;

fn content(disk: &MemoryBackend) -> Vec<u8> {
    let mut bytes = vec![0; StorageBackend::len(disk).unwrap() as usize];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_copy_has_what_was_not_synced_too_and_its_own_luck() {
    let disk = MemoryBackend::new();
    StorageBackend::write(&disk, 0, b"synced").unwrap();
    disk.sync_data().unwrap();
    StorageBackend::write(&disk, 0, b"newest").unwrap();
    disk.fail_after(0);
    assert!(StorageBackend::write(&disk, 0, b"failed").is_err());
    assert_eq!(disk.failures(), 1);
    let copy = disk.copy();
    StorageBackend::write(&copy, 6, b"!").unwrap();
    let mut found = [0; 6];
    StorageBackend::read(&copy, 0, &mut found).unwrap();
    assert_eq!((&found, copy.failures()), (b"newest", 0));
    disk.heal();
    disk.sync_data().unwrap();
    assert_eq!((StorageBackend::len(&disk).unwrap(), disk.failures()), (6, 1));
}

#[test]
fn what_was_synced_survives_each_crash_and_what_was_not_survives_in_part() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = MemoryBackend::new();
        disk.set_len(3 * PAGE as u64).unwrap();
        disk.write(100, &[1; 5000]).unwrap();
        disk.sync_data().unwrap();
        disk.write(0, &[2; 600]).unwrap();
        disk.write(PAGE as u64, &[3; 600]).unwrap();
        disk.write(PAGE as u64 + 100, &[4; 100]).unwrap();
        let found = content(&disk.crash(seed));
        assert_eq!(found.len(), 3 * PAGE);
        assert_eq!(found[1000..PAGE], [1; PAGE - 1000]);
        // 4 was written over 3, in one sector: it cannot be there without it.
        if found[PAGE + 100] == 4 {
            assert_eq!(found[PAGE], 3);
        }
        outcomes.insert((found[0], found[600 - 1], found[PAGE], found[PAGE + 100]));
    }
    // Nothing, everything, and several things between.
    assert!(outcomes.contains(&(0, 1, 1, 1)), "{outcomes:?}");
    assert!(outcomes.contains(&(2, 2, 3, 4)), "{outcomes:?}");
    assert!(outcomes.contains(&(2, 1, 1, 1)), "torn at a sector: {outcomes:?}");
    assert!(outcomes.contains(&(0, 1, 3, 3)), "one write of two: {outcomes:?}");
}

#[test]
fn a_disk_that_lies_about_syncs_loses_what_it_called_synced() {
    let lost = (0..50).filter(|seed| {
        let disk = MemoryBackend::new();
        disk.lie_about_syncs();
        disk.write(0, &[1; PAGE]).unwrap();
        disk.sync_data().unwrap();
        let found = content(&disk.crash(*seed));
        found.len() < PAGE || found.contains(&0)
    });
    assert!(lost.count() > 10);
}

#[test]
fn one_seed_gives_one_outcome_and_the_old_disk_is_dead() {
    let make = || {
        let disk = MemoryBackend::new();
        (0..50u8).for_each(|i| disk.write(u64::from(i) * 700, &[i + 1; 650]).unwrap());
        disk
    };
    let (a, b) = (make(), make());
    assert_eq!(content(&a.crash(7)), content(&b.crash(7)));
    assert!(a.write(0, &[1]).is_err());
    assert!(a.open().is_err());
}

#[test]
fn cutting_the_file_frees_pages_and_leaves_zeros() {
    let disk = MemoryBackend::new();
    disk.write(0, &[9; 3 * PAGE]).unwrap();
    disk.set_len(PAGE as u64 + 10).unwrap();
    assert_eq!(disk.used_bytes(), 2 * PAGE as u64);
    disk.set_len(2 * PAGE as u64).unwrap();
    let bytes = content(&disk);
    assert_eq!(bytes[PAGE + 9], 9);
    assert!(bytes[PAGE + 10..].iter().all(|&b| b == 0));
}

use std::io::ErrorKind;

use super::*;

fn content(fs: &SimFs, path: &str) -> Option<Vec<u8>> {
    let file = fs.open(Path::new(path)).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn disk_with_synced_file(bytes: &[u8]) -> (SimFs, Arc<dyn File>) {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/d")).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    let file = fs.create_new(Path::new("/d/f")).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(Path::new("/d")).unwrap();
    (fs, file)
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let (fs, file) = disk_with_synced_file(b"kept");
    file.write_all_at(b"lost?", 600).unwrap();
    for seed in 0..100 {
        let found = content(&fs.crash(seed), "/d/f").unwrap();
        assert_eq!(&found[..4], b"kept", "seed {seed}");
    }
}

#[test]
fn what_was_not_synced_survives_some_and_is_torn_by_others() {
    let (fs, file) = disk_with_synced_file(&[1; 2048]);
    file.write_all_at(&[2; 2048], 0).unwrap();
    let (mut none, mut some, mut all) = (0, 0, 0);
    for seed in 0..200 {
        let found = content(&fs.crash(seed), "/d/f").unwrap();
        let new_sectors = found.chunks(512).filter(|sector| sector == &[2; 512]).count();
        let old_sectors = found.chunks(512).filter(|sector| sector == &[1; 512]).count();
        assert_eq!(new_sectors + old_sectors, 4, "a sector was torn, seed {seed}");
        match new_sectors {
            0 => none += 1,
            4 => all += 1,
            _ => some += 1,
        }
    }
    assert!(none > 0 && some > 0 && all > 0, "none {none}, some {some}, all {all}");
}

#[test]
fn a_file_whose_name_was_not_synced_may_be_gone() {
    let (fs, _file) = disk_with_synced_file(b"");
    let second = fs.create_new(Path::new("/d/second")).unwrap();
    second.sync_data().unwrap();
    let found = (0..100).filter(|&seed| fs.crash(seed).exists(Path::new("/d/second")).unwrap()).count();
    assert!((1..100).contains(&found), "{found}");
}

#[test]
fn a_rename_happens_wholly_or_not_at_all() {
    let (fs, _file) = disk_with_synced_file(b"x");
    fs.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
    for seed in 0..100 {
        let after = fs.crash(seed);
        let both = [content(&after, "/d/f"), content(&after, "/d/g")];
        assert_eq!(both.iter().flatten().count(), 1, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let (fs, file) = disk_with_synced_file(&[1; 8192]);
    file.write_all_at(&[2; 8192], 100).unwrap();
    for seed in 0..20 {
        assert_eq!(content(&fs.crash(seed), "/d/f"), content(&fs.crash(seed), "/d/f"));
    }
}

#[test]
fn after_the_stop_every_call_fails_and_a_removed_file_stays_readable_before() {
    let (fs, file) = disk_with_synced_file(b"abc");
    fs.remove_file(Path::new("/d/f")).unwrap();
    let mut found = [0; 3];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"abc");
    fs.stop_at(fs.calls_total() + 1);
    assert!(file.sync_data().is_err());
    assert!(file.len().is_err());
    assert!(fs.list(Path::new("/d")).is_err());
}

#[test]
fn an_injected_failure_happens_once() {
    let (fs, file) = disk_with_synced_file(b"");
    fs.fail_next(Call::Allocate, ErrorKind::StorageFull);
    assert_eq!(file.allocate(10).unwrap_err().kind(), ErrorKind::StorageFull);
    file.allocate(10).unwrap();
    assert_eq!(file.len().unwrap(), 10);
}

#[test]
fn a_linked_file_outlives_its_first_name_and_a_copy_stands_in_where_links_are_refused() {
    use super::super::link_or_copy;
    let (fs, file) = disk_with_synced_file(b"kept");
    let (first, second) = (Path::new("/d/f"), Path::new("/d/g"));
    link_or_copy(&fs, first, second).unwrap();
    assert_eq!(fs.link(first, second).unwrap_err().kind(), ErrorKind::AlreadyExists);
    file.write_all_at(b"K", 0).unwrap();
    assert_eq!(content(&fs, "/d/g").unwrap(), b"Kept", "one file, two names");
    file.sync_data().unwrap();
    fs.remove_file(first).unwrap();
    assert!((0..50).any(|seed| content(&fs.crash(seed), "/d/g").is_none()), "a name is not durable by itself");
    fs.sync_dir(Path::new("/d")).unwrap();
    assert!((0..50).all(|seed| content(&fs.crash(seed), "/d/g").unwrap() == b"Kept"));

    fs.fail_next(Call::Link, ErrorKind::CrossesDevices);
    link_or_copy(&fs, second, first).unwrap();
    file.write_all_at(b"W", 0).unwrap();
    assert_eq!(content(&fs, "/d/f").unwrap(), b"Kept", "a file of its own");
    fs.sync_dir(Path::new("/d")).unwrap();
    assert!((0..50).all(|seed| content(&fs.crash(seed), "/d/f").unwrap() == b"Kept"));
    fs.fail_next(Call::Link, ErrorKind::StorageFull);
    assert_eq!(link_or_copy(&fs, second, Path::new("/d/h")).unwrap_err().kind(), ErrorKind::StorageFull);
}

//! What is on disk beside the log: checkpoints, restarts from them, damage, and power cuts in between.

use super::*;
use crate::collection::disk::{FileKind, parts_folder, path_of};
use crate::storage::fs::SimFs;

pub(super) const DIMENSION: usize = 8;

fn components(number: usize) -> Vec<f32> {
    (0..DIMENSION).map(|at| ((number * 37 + at * 11) as f32 * 0.37).sin()).collect()
}

pub(super) fn numbered(number: usize) -> RecordWritten {
    let fields = BTreeMap::from([("n".to_owned(), Value::Int(number as i64))]);
    let content = Content { text: Some(format!("text {number}").into()), metadata: Metadata::new(fields).unwrap() };
    RecordWritten { content: Arc::new(content), ..record(&format!("r{number:05}"), "a", &components(number), None) }
}

pub(super) fn write(collection: &Collection, numbers: std::ops::Range<usize>) {
    for batch in numbers.collect::<Vec<_>>().chunks(500) {
        run(collection, upsert(batch.iter().map(|&number| numbered(number)).collect())).unwrap();
    }
}

/// Everything that a reader can see of a collection.
pub(super) fn everything(collection: &Collection) -> Vec<(String, u64, Vec<u32>, Content)> {
    let view = collection.view();
    let row = |(row, _): (Row<'_>, &Space)| {
        let bits = row.components.iter().map(|component| component.to_bits()).collect();
        (row.id.to_string(), row.version.0, bits, Content::clone(row.content))
    };
    view.list(None).map(row).collect()
}

fn answers(collection: &Collection) -> Vec<Vec<(String, f32)>> {
    (0..20).map(|number| search(collection, "a", &components(number * 13 + 1), 10)).collect()
}

#[test]
fn a_start_goes_on_from_the_checkpoint_and_builds_nothing_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let options = || LogOptions { segment_bytes_max: 256 << 10, ..LogOptions::default() };
    let created = Created { spaces: vec![space("a", DIMENSION, Metric::Cosine)], ..Created::default() };
    let collection = Collection::create(Arc::new(RealFs), &path, options(), created).unwrap();
    write(&collection, 0..6000);
    // Before anything is written beside it: on a busy machine the log may be cut while the segment is built.
    let log_bytes = collection.log_bytes();
    collection.compact(&mut |_, _| {});
    let key = RequestKey { request_id: "r".to_owned(), content_hash: 1 };
    let removal = Operation { request_key: Some(key), ..delete(&["r00007", "r00008", "no such"]) };
    let answer = run(&collection, removal.clone()).unwrap();
    run(&collection, frame("s", 1, upsert(vec![numbered(9)]).change)).unwrap();
    collection.checkpoint().unwrap();
    assert!(collection.log_bytes() <= log_bytes / 2, "{} of {log_bytes}", collection.log_bytes());
    // What comes after the checkpoint is in the log alone: in the memtable, and in the set of dead rows.
    run(&collection, delete(&["r00010"])).unwrap();
    run(&collection, upsert(vec![numbered(7000), numbered(11)])).unwrap();
    let (before, found, sequence) = (everything(&collection), answers(&collection), collection.view().sequence());
    drop(collection);

    for retries in 0..2 {
        let (collection, torn) = Collection::open(Arc::new(RealFs), &path, options()).unwrap();
        assert!(torn.is_none());
        let statistics = collection.statistics();
        assert_eq!((statistics.segment_count, statistics.rows_built), (1, 0));
        assert_eq!(collection.view().sequence().0, sequence.0 + retries);
        assert_eq!(everything(&collection), before);
        assert_eq!(answers(&collection), found);
        assert_eq!(run(&collection, removal.clone()).unwrap(), answer, "a retry after the log was cut");
        assert_eq!(collection.stream_mark(&StreamId::new("s").unwrap()).settled_frame, 1);
    }
}

#[test]
fn a_damaged_graph_is_built_again_and_damaged_rows_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let collection = create(&path, vec![space("a", DIMENSION, Metric::Euclidean)]);
    write(&collection, 0..3000);
    // Identical vectors share a node, and come back for each of their rows.
    run(&collection, upsert((0..5).map(|n| record(&format!("twin{n}"), "a", &components(1), None)).collect())).unwrap();
    collection.compact(&mut |_, _| {});
    collection.checkpoint().unwrap();
    let (before, found) = (everything(&collection), answers(&collection));
    drop(collection);
    let file = |suffix: &str| {
        let files = std::fs::read_dir(parts_folder(&path)).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == suffix)).max().unwrap()
    };
    let flip = |file: &Path, at: usize| {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[at] ^= 4;
        std::fs::write(file, bytes).unwrap();
    };
    let graph = file("graph");
    flip(&graph, 3 * 4096 + 5);
    let collection = reopen(&path);
    assert_eq!((everything(&collection), answers(&collection)), (before.clone(), found.clone()));
    collection.compact(&mut |_, _| {});
    collection.checkpoint().unwrap();
    assert_eq!(collection.statistics().segment_count, 1);
    drop(collection);
    assert_eq!(reopen(&path).statistics().rows_built, 0, "it is on disk again");

    std::fs::remove_file(file("graph")).unwrap();
    let collection = reopen(&path);
    assert_eq!((everything(&collection), answers(&collection)), (before, found));
    drop(collection);

    let rows = file("rows");
    flip(&rows, 4096 + 5);
    let open = || Collection::open(Arc::new(RealFs), &path, LogOptions::default()).err().unwrap().to_string();
    let refused = open();
    assert!(
        refused.contains(&rows.display().to_string()) && refused.contains("is damaged at offset 4096"),
        "{refused}"
    );
    std::fs::remove_file(&rows).unwrap();
    assert!(open().contains("cannot open"), "{}", open());
}

#[test]
fn deletes_during_a_build_and_after_it_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let collection = create(&path, vec![space("a", DIMENSION, Metric::DotProduct)]);
    write(&collection, 0..9000);
    std::thread::scope(|scope| {
        let building = scope.spawn(|| collection.compact(&mut |_, _| {}));
        for number in (0..9000).step_by(7) {
            run(&collection, delete(&[&format!("r{number:05}")])).unwrap();
        }
        building.join().unwrap();
    });
    collection.checkpoint().unwrap();
    run(&collection, delete(&["r00001"])).unwrap();
    let (before, found) = (everything(&collection), answers(&collection));
    assert_eq!(before.len(), 9000 - 9000_usize.div_ceil(7) - 1);
    drop(collection);
    let collection = reopen(&path);
    assert_eq!(everything(&collection), before);
    assert_eq!(answers(&collection), found);
    // Places of dead rows are used again, and nothing else is.
    write(&collection, 0..100);
    assert_eq!(collection.view().record_count(), before.len() + 100_usize.div_ceil(7) + 1);
}

#[test]
fn vectors_that_lie_in_their_file_are_the_same_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let options = |vectors| CollectionOptions { vectors, ..CollectionOptions::default() };
    let created = Created { spaces: vec![space("a", DIMENSION, Metric::Cosine)], ..Created::default() };
    let mapped = options(Residence::Mapped);
    let collection = Collection::create(Arc::new(RealFs), &path, mapped.clone(), created).unwrap();
    write(&collection, 0..3000);
    collection.compact(&mut |_, _| {});
    let before = collection.view();
    let components = before.get("r00017").unwrap().0.components.to_vec();
    collection.checkpoint().unwrap();
    let (all, found) = (everything(&collection), answers(&collection));
    // A view of before sees the same through what has taken the place of its memory.
    assert_eq!(before.get("r00017").unwrap().0.components, components);
    drop((collection, before));
    for vectors in [Residence::Resident, Residence::Mapped] {
        let (collection, _) = Collection::open(Arc::new(RealFs), &path, options(vectors)).unwrap();
        assert_eq!((everything(&collection), answers(&collection)), (all.clone(), found.clone()), "{vectors:?}");
    }
    let rows = std::fs::read_dir(parts_folder(&path)).unwrap().map(|entry| entry.unwrap().path());
    let rows = rows.filter(|file| file.extension().is_some_and(|extension| extension == "rows")).max().unwrap();
    let mut bytes = std::fs::read(&rows).unwrap();
    bytes[4096 + 100] ^= 1;
    std::fs::write(&rows, bytes).unwrap();
    let error = Collection::open(Arc::new(RealFs), &path, mapped).err().unwrap().to_string();
    assert!(error.contains("is damaged at offset 4096"), "{error}");
}

#[test]
fn files_that_no_manifest_names_are_removed_and_foreign_ones_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let collection = create(&path, vec![space("a", DIMENSION, Metric::Cosine)]);
    write(&collection, 0..100);
    collection.checkpoint().unwrap();
    let before = everything(&collection);
    drop(collection);
    let left_behind = [path_of(&path, 900, FileKind::Rows), path_of(&path, 901, FileKind::Answers)];
    let foreign = [parts_folder(&path).join("notes.txt"), path.join("readme")];
    for file in left_behind.iter().chain(&foreign) {
        std::fs::write(file, "not a part").unwrap();
    }
    std::fs::write(path.join("manifest.tmp"), "half").unwrap();
    assert_eq!(everything(&reopen(&path)), before);
    assert!(left_behind.iter().all(|file| !file.exists()) && !path.join("manifest.tmp").exists());
    assert!(foreign.iter().all(|file| file.exists()));
}

pub(super) fn small_files() -> LogOptions {
    LogOptions { segment_bytes_max: 16 << 10, sync_delay: Duration::from_millis(1), ..LogOptions::default() }
}

/// 300 records in parts, of which the log has no more than the last, and 5 in the log alone.
fn with_a_cut_log(path: &Path) -> Collection {
    let created = Created { spaces: vec![space("a", DIMENSION, Metric::Cosine)], ..Created::default() };
    let collection = Collection::create(Arc::new(RealFs), path, small_files(), created).unwrap();
    (0..300).for_each(|number| write(&collection, number..number + 1));
    collection.checkpoint().unwrap();
    write(&collection, 300..305);
    collection
}

#[test]
fn without_its_manifest_a_collection_whose_log_was_cut_is_refused_and_nothing_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    drop(with_a_cut_log(&path));
    let manifest = std::fs::read(path.join("manifest")).unwrap();
    std::fs::remove_file(path.join("manifest")).unwrap();
    for _ in 0..2 {
        let error = Collection::open(Arc::new(RealFs), &path, small_files()).err().unwrap().to_string();
        assert!(error.contains("the log begins at sequence"), "{error}");
    }
    std::fs::write(path.join("manifest"), manifest).unwrap();
    let (collection, _) = Collection::open(Arc::new(RealFs), &path, small_files()).unwrap();
    assert_eq!(collection.view().record_count(), 305, "every part is there still");
}

#[test]
fn damaged_rows_are_left_out_and_what_came_after_the_checkpoint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    drop(with_a_cut_log(&path));
    let rows = std::fs::read_dir(parts_folder(&path)).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    let mut bytes = std::fs::read(&rows).unwrap();
    bytes[4100] ^= 1;
    std::fs::write(&rows, &bytes).unwrap();
    let found = examine_files(&RealFs, &path).unwrap();
    assert_eq!((found.sequence, found.damaged.len()), (Sequence(301), 1));
    assert_eq!(found.damaged[0].lost, FileLoss::Records(300));
    let aside = path.join("damaged-1");
    // Twice: it may be interrupted.
    leave_out(&RealFs, &path, &aside, &found).unwrap();
    leave_out(&RealFs, &path, &aside, &found).unwrap();
    assert_eq!(std::fs::read(aside.join(rows.file_name().unwrap())).unwrap(), bytes);
    let (collection, _) = Collection::open(Arc::new(RealFs), &path, small_files()).unwrap();
    assert_eq!(collection.view().record_count(), 5);
    assert_eq!(collection.view().sequence(), Sequence(302));
}

#[test]
fn rows_that_verify_and_cannot_be_understood_are_told_and_left_out() {
    // Ids that are no text, a content that is no message, and one whose length is wrong: sections 5, 7 and 6.
    for (section, byte) in [(5, 0xFF), (7, 0xFF), (6, 0xFF)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        drop(with_a_cut_log(&path));
        let rows = std::fs::read_dir(parts_folder(&path)).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
        crate::storage::forge::rewrite_section(&rows, section, |bytes| bytes[0] = byte);
        assert!(Collection::open(Arc::new(RealFs), &path, small_files()).is_err(), "section {section}");
        let found = examine_files(&RealFs, &path).unwrap();
        assert_eq!(found.damaged.len(), 1, "section {section}");
        assert_eq!((&found.damaged[0].file, found.damaged[0].lost), (&rows, FileLoss::Records(300)));
        leave_out(&RealFs, &path, &path.join("damaged-1"), &found).unwrap();
        let (collection, _) = Collection::open(Arc::new(RealFs), &path, small_files()).unwrap();
        assert_eq!(collection.view().record_count(), 5);
    }
}

#[test]
fn after_a_manifest_that_may_be_there_or_not_nothing_of_the_files_changes_until_a_restart() {
    let (fs, path) = (SimFs::new(), Path::new("/c"));
    let created = Created { spaces: vec![space("a", DIMENSION, Metric::Cosine)], ..Created::default() };
    let collection = Collection::create(Arc::new(fs.clone()), path, small_files(), created).unwrap();
    write(&collection, 0..50);
    collection.checkpoint().unwrap();
    write(&collection, 50..100);
    fs.fail_next(Call::Rename, std::io::ErrorKind::Other);
    assert!(collection.checkpoint().is_err(), "of a part: the next one tries again");
    let names = || {
        let mut names = fs.list(&parts_folder(path)).unwrap();
        names.sort();
        names
    };
    collection.checkpoint().unwrap();
    write(&collection, 100..150);
    let before = fs.calls(Call::Rename);
    collection.checkpoint().unwrap();
    let of_a_checkpoint = fs.calls(Call::Rename) - before;
    write(&collection, 150..200);
    // The last of a checkpoint is that of the manifest.
    fs.fail_nth(Call::Rename, of_a_checkpoint, std::io::ErrorKind::Other);
    assert!(collection.checkpoint().is_err());
    let files = names();
    write(&collection, 200..250);
    assert!(collection.checkpoint().is_err(), "nobody knows which manifest is there");
    assert_eq!(names(), files);
    let attempts = || (fs.calls(Call::CreateNew), fs.calls(Call::Rename));
    let before = attempts();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(attempts(), before, "what is stuck is not tried again");
    let all = everything(&collection);
    for seed in 0..20 {
        let (again, _) = Collection::open(Arc::new(fs.crash(seed)), path, small_files()).unwrap();
        assert!(everything(&again).len() >= 200, "what was synced");
    }
    drop(collection);
    let (collection, _) = Collection::open(Arc::new(fs), path, small_files()).unwrap();
    assert_eq!(everything(&collection), all);
    collection.checkpoint().unwrap();
}

/// A history with checkpoints and builds, cut at every call that changes the disk.
#[test]
fn a_power_cut_at_any_call_loses_nothing_that_was_acknowledged() {
    let path = Path::new("/c");
    let options = || LogOptions { segment_bytes_max: 16 << 10, ..LogOptions::default() };
    let created = || Created { spaces: vec![space("a", DIMENSION, Metric::Cosine)], ..Created::default() };
    let durable = |collection: &Collection, operation: Operation| {
        let answer = collection.submit(operation, Durability::Durable).ok()?;
        answer.blocking_recv().ok()?.ok()
    };
    // Returns how many steps were acknowledged.
    let history = |collection: &Collection| {
        for step in 0..40 {
            let key = RequestKey { request_id: step.to_string(), content_hash: 0 };
            let batch = (0..5).map(|n| numbered((step * 3 + n) % 50)).collect();
            let operation = if step % 7 == 3 { delete(&["r00003", "r00009"]) } else { upsert(batch) };
            if durable(collection, Operation { request_key: Some(key), ..operation }).is_none() {
                return step;
            }
            match step % 10 {
                4 => drop(collection.checkpoint()),
                8 => collection.compact(&mut |_, _| {}),
                _ => {}
            }
        }
        40
    };
    let states: Vec<_> = {
        // What is there after each step.
        let folder = tempfile::tempdir().unwrap();
        let collection = create(&folder.path().join("c"), vec![space("a", DIMENSION, Metric::Cosine)]);
        let mut states = vec![everything(&collection)];
        for step in 0..40 {
            let batch = (0..5).map(|n| numbered((step * 3 + n) % 50)).collect();
            let operation = if step % 7 == 3 { delete(&["r00003", "r00009"]) } else { upsert(batch) };
            run(&collection, operation).unwrap();
            states.push(everything(&collection));
        }
        states
    };
    let mut nth = 12;
    loop {
        let fs = SimFs::new();
        let collection = Collection::create(Arc::new(fs.clone()), path, options(), created()).unwrap();
        fs.stop_at(fs.calls_total() + nth);
        let acknowledged = history(&collection);
        let after = [fs.crash(nth), fs.crash(nth + 1000)];
        drop(collection);
        for fs in after {
            let (collection, _) = Collection::open(Arc::new(fs), path, options())
                .unwrap_or_else(|error| panic!("cut at call {nth}: {error}"));
            let found = everything(&collection);
            // The step that was not acknowledged may be there, or not.
            let last = states.len() - 1;
            let step = [acknowledged, (acknowledged + 1).min(last)].into_iter().find(|&step| states[step] == found);
            let step = step.unwrap_or_else(|| panic!("cut at call {nth}: neither {acknowledged} nor the next"));
            for step in 0..step {
                let key = RequestKey { request_id: step.to_string(), content_hash: 0 };
                assert!(matches!(collection.seen(&key), Seen::Answered(_)), "cut at call {nth}: request {step}");
            }
        }
        if acknowledged == 40 {
            assert!(nth > 150, "the history makes some hundred calls");
            break;
        }
        nth += 3;
    }
}

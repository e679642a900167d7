//! Figures, on demand: `cargo test --release -- --ignored --nocapture speed`.

use std::time::Instant;

use super::*;
use crate::storage::fs::RealFs;

#[test]
#[ignore = "measures; run it by hand in release"]
fn speed_of_append_and_replay() {
    let disk = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let folder = disk.path().join("log");
    let log = FileLog::create(fs.clone(), &folder, LogOptions::default()).unwrap();
    let start = Instant::now();
    let completions: Vec<_> = (0..1600)
        .map(|_| log.append(vec![vec![7; 1600]; 100], Durability::Buffered).unwrap())
        .collect();
    for completion in completions {
        completion.wait().unwrap();
    }
    println!("buffered: {} MB in {:?}", log.bytes() / 1_000_000, start.elapsed());
    drop(log);

    let start = Instant::now();
    let mut bytes = 0;
    let replay = |record: LogRecord<'_>| {
        bytes += record.payload.len();
        Ok::<(), String>(())
    };
    let (log, report) = FileLog::open(fs, &folder, LogOptions::default(), replay).unwrap();
    println!(
        "replay: {} records, {} MB in {:?}",
        report.records,
        bytes / 1_000_000,
        start.elapsed()
    );

    for threads in [1, 16, 64] {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..200 {
                        append(&log, vec![1; 1600], Durability::Durable);
                    }
                });
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "durable: {threads} threads, {:.0} appends/s",
            f64::from(threads * 200) / seconds
        );
    }
}

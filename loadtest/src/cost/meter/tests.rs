use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;

use super::*;
use crate::clock::now_ns;

/// A shell that does what it is told, line by line.
struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start() -> Self {
        let mut child = Command::new("sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self {
            child,
            input,
            output: BufReader::new(output),
        }
    }

    /// Runs a command and waits until it has ended.
    fn run(&mut self, command: &str) -> String {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{command}\necho done").unwrap();
        input.flush().unwrap();
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "{said}");
            if line == "done\n" {
                return said;
            }
            said.push_str(&line);
        }
    }

    fn end(mut self) {
        self.input = None;
        self.child.wait().unwrap();
    }
}

/// Uses so much CPU time on this thread, however busy the machine is.
fn burn(time: Duration) {
    let own = std::process::id();
    let thread = rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let begun = proc::thread_cpu(own, thread).unwrap();
    while proc::thread_cpu(own, thread).unwrap() - begun < time {
        std::hint::black_box((0..100_000_u64).sum::<u64>());
    }
}

/// A loop that takes a shell some hundredths of a second at the least.
const WORK: &str = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";

#[test]
fn wrong_processes_are_told() {
    assert!(matches!(
        CostMeter::start(Vec::new(), false),
        Err(CostError::NoProcess)
    ));
    assert!(matches!(
        CostMeter::start((1..=5000).collect(), false),
        Err(CostError::TooMany { count: 5000 })
    ));
    let error = CostMeter::start(vec![u32::MAX], true).unwrap_err();
    assert_eq!(error.to_string(), "there is no process 4294967295");
}

#[test]
fn threads_are_told_apart_and_ended_ones_are_not_lost() {
    let own = std::process::id();
    let mut meter = CostMeter::start(vec![own, own], false).unwrap();
    let before = meter.mark();
    assert_eq!(before.processes, 1);
    assert!(before.rss_bytes > 100_000 && before.peak_rss_bytes >= before.rss_bytes / 2);
    let time = Duration::from_millis(60);
    let (go, wait) = channel::<()>();
    let (told, hear) = channel::<()>();
    let thread = std::thread::Builder::new()
        .name("cost-test-long".to_owned())
        .spawn(move || {
            burn(time);
            told.send(()).unwrap();
            let _end = wait.recv();
            burn(time);
        })
        .unwrap();
    hear.recv().unwrap();
    let middle = meter.mark();
    let used = middle.since(&before);
    let found = used.threads.iter();
    let found = found.filter(|thread| thread.name == "cost-test-long");
    let cpu: Vec<_> = found.map(|thread| thread.cpu).collect();
    assert!(
        matches!(cpu[..], [cpu] if cpu >= time && cpu < time * 10),
        "{used:?}"
    );
    assert!(used.cpu >= time, "{used:?}");
    drop(go);
    thread.join().unwrap();
    // Another one that no reading ever sees.
    std::thread::spawn(move || burn(time)).join().unwrap();
    let after = meter.mark();
    let used = after.since(&middle);
    assert!(
        !used
            .threads
            .iter()
            .any(|thread| thread.name == "cost-test-long"),
        "{used:?}"
    );
    // Both, but for the 20 ms that clock ticks may hide.
    let last = used.threads.last().unwrap();
    assert_eq!(last.name, ENDED_THREADS, "{used:?}");
    assert!(last.cpu + Duration::from_millis(20) >= time * 2, "{used:?}");
    let sum: Duration = used.threads.iter().map(|thread| thread.cpu).sum();
    assert_eq!(sum, used.cpu, "{used:?}");
    assert!(used.voluntary > 0, "{used:?}");
}

#[test]
fn children_count_if_they_are_wanted_even_when_they_are_gone() {
    let mut shell = Shell::start();
    let pid = shell.child.id();
    let mut alone = CostMeter::start(vec![pid], false).unwrap();
    let mut family = CostMeter::start(vec![pid], true).unwrap();
    let (first_alone, first) = (alone.mark(), family.mark());
    // It and its child are gone before anybody looks.
    shell.run(&format!("sh -c '{WORK}; sh -c \"true; {WORK}\"; true'"));
    let (alone, gone) = (alone.mark(), family.mark());
    let (alone, gone) = (alone.since(&first_alone).cpu, gone.since(&first).cpu);
    assert!(
        gone >= alone + Duration::from_millis(20),
        "{alone:?} {gone:?}"
    );
    // One that is there to be seen. `exec` makes sure that there is one and not two.
    let child = shell.run("sh -c 'exec sleep 1000' & echo $!");
    let child: u32 = child.trim().parse().unwrap();
    let seen = family.mark();
    assert_eq!(seen.processes, 2, "{seen:?}");
    assert!(seen.threads.iter().any(|thread| thread.process == child));
    shell.run(&format!("kill {child}; wait"));
    let last = family.mark();
    assert_eq!(last.processes, 1, "{last:?}");
    assert!(last.cpu >= seen.cpu, "{last:?} {seen:?}");
    shell.end();
}

#[test]
fn a_process_that_ends_keeps_its_part() {
    let mut shell = Shell::start();
    let mut meter = CostMeter::start(vec![shell.child.id()], false).unwrap();
    shell.run(WORK);
    let before = meter.mark();
    assert!(before.cpu >= Duration::from_millis(5), "{before:?}");
    shell.end();
    let after = meter.mark();
    assert_eq!((after.processes, after.rss_bytes), (0, 0));
    assert!(after.cpu >= before.cpu && after.voluntary >= before.voluntary);
    let sum: Duration = after.threads.iter().map(|thread| thread.cpu).sum();
    assert_eq!(sum, after.cpu);
    assert_eq!(meter.mark().cpu, after.cpu);
    assert!(after.at > before.at && now_ns() > 0);
}

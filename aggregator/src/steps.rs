//! Where a worker's CPU time goes.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A part of a worker's way with a batch. The store's own threads are not its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take records from the log, and commit.
    Consume,
    /// Parse, and come to a verdict on each event.
    Judge,
    /// Ask filters and store, and remember.
    Dedup,
    /// Sort, roll up, write blocks.
    Encode,
    /// Plan, hand blocks to the store, wait, write down.
    Insert,
}

impl Step {
    /// As the metric has it.
    pub fn name(self) -> &'static str {
        match self {
            Step::Consume => "consume",
            Step::Judge => "judge",
            Step::Dedup => "dedup",
            Step::Encode => "encode",
            Step::Insert => "insert",
        }
    }
}

/// CPU time of this thread since it began.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_takes_no_time_and_working_does() {
        let before = thread_cpu();
        std::thread::sleep(Duration::from_millis(30));
        assert!(thread_cpu() - before < Duration::from_millis(20));
        let mut word = 1_u64;
        while thread_cpu() - before < Duration::from_millis(25) {
            word = std::hint::black_box(word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        assert_ne!(word, 0);
    }
}

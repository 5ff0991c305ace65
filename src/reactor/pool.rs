//! A few threads that run jobs, one after the other in the order in which they came.
//!
//! A thread is started when a job would have to wait for another one, up to a limit. The threads stay until the pool is
//! closed: a reactor that never defers has none, and one that defers much starts none for each operation. Their owner
//! bounds how many jobs there are.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use super::panics::guarded;

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads, and the jobs that wait for one. There is no thread before the first job.
pub(super) struct Pool {
    /// Linux cuts the name of a thread at 15 bytes.
    thread_name: &'static str,
    shared: Arc<Shared>,
    thread_count: usize,
    has_warned: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job, and those that have been started and do not wait yet. Each takes one of the jobs.
    idle_count: usize,
    has_threads: bool,
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    pub(super) fn new(thread_name: &'static str) -> Pool {
        Pool {
            thread_name,
            shared: Arc::default(),
            thread_count: 0,
            has_warned: false,
        }
    }

    /// A handle that puts jobs from any thread.
    pub(super) fn handle(&self) -> PoolHandle {
        PoolHandle {
            shared: Arc::downgrade(&self.shared),
        }
    }

    /// Adds a job behind those that wait. Starts a thread for it if all are busy and there are fewer than
    /// `threads_max`.
    ///
    /// # Errors
    ///
    /// That of the system when there is no thread and none can be started. The job is dropped.
    pub(super) fn put(&mut self, job: Job, threads_max: usize) -> io::Result<()> {
        let mut waiting = self.shared.lock();
        waiting.jobs.push_back(job);
        let needs_thread = waiting.idle_count < waiting.jobs.len();
        if needs_thread && self.thread_count < threads_max {
            waiting.idle_count += 1;
            drop(waiting);
            return self.start_thread();
        }
        let has_idle = waiting.idle_count != 0;
        drop(waiting);
        if has_idle {
            self.shared.changed.notify_one();
        }
        Ok(())
    }

    fn start_thread(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name(self.thread_name.to_owned())
            .spawn(move || run_jobs(&shared));
        let Err(error) = started else {
            self.thread_count += 1;
            self.shared.lock().has_threads = true;
            return Ok(());
        };
        let mut waiting = self.shared.lock();
        waiting.idle_count -= 1;
        if self.thread_count == 0 {
            let job = waiting.jobs.pop_back();
            drop(waiting);
            drop(job);
            return Err(error);
        }
        if !self.has_warned {
            self.has_warned = true;
            let count = self.thread_count;
            log::warn!("only {count} threads of {}: {error}", self.thread_name);
        }
        Ok(())
    }

    /// Closes the pool, and returns the jobs that no thread has begun. A thread ends when it is done with its job; this
    /// does not wait for it.
    pub(super) fn close(&mut self) -> VecDeque<Job> {
        let mut waiting = self.shared.lock();
        waiting.is_closed = true;
        let jobs = std::mem::take(&mut waiting.jobs);
        drop(waiting);
        self.shared.changed.notify_all();
        jobs
    }
}

/// Puts jobs into a pool that has threads, and starts none.
#[derive(Clone, Default)]
pub(super) struct PoolHandle {
    shared: Weak<Shared>,
}

impl PoolHandle {
    /// Adds a job behind those that wait, or runs it here when no thread will: the pool is closed, or has none.
    pub(super) fn put_or_run(&self, job: Job) {
        let Some(shared) = self.shared.upgrade() else {
            return job();
        };
        let mut waiting = shared.lock();
        if waiting.is_closed || !waiting.has_threads {
            drop(waiting);
            return job();
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        shared.changed.notify_one();
    }
}

/// Runs jobs until the pool is closed.
fn run_jobs(shared: &Shared) {
    let mut waiting = shared.lock();
    loop {
        waiting.idle_count -= 1;
        while let Some(job) = waiting.jobs.pop_front() {
            drop(waiting);
            // A job guards the code of the application. A panic that comes nevertheless must not end the thread,
            // because others would wait for it.
            if let Err(panicked) = guarded(job) {
                panicked.forget();
            }
            waiting = shared.lock();
        }
        if waiting.is_closed {
            return;
        }
        waiting.idle_count += 1;
        waiting = shared
            .changed
            .wait(waiting)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn jobs_that_wait_for_each_other_have_a_thread_each() {
        let mut pool = Pool::new("test");
        assert_eq!(pool.thread_count, 0);
        let barrier = Arc::new(Barrier::new(4));
        for _ in 0..3 {
            let barrier = Arc::clone(&barrier);
            let job = move || {
                barrier.wait();
            };
            pool.put(Box::new(job), 3).unwrap();
        }
        barrier.wait();
        assert_eq!(pool.thread_count, 3);
        assert!(pool.close().is_empty());
    }

    #[test]
    fn a_closed_pool_returns_the_jobs_that_have_not_begun() {
        let mut pool = Pool::new("test");
        let (begun, has_begun) = channel();
        let (end, ended) = channel::<()>();
        let job = move || {
            begun.send(()).unwrap();
            ended.recv().unwrap();
        };
        pool.put(Box::new(job), 1).unwrap();
        has_begun.recv().unwrap();
        for _ in 0..2 {
            pool.put(Box::new(|| unreachable!("the pool is closed")), 1)
                .unwrap();
        }
        assert_eq!(pool.close().len(), 2);
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        end.send(()).unwrap();
        // The thread holds the last one, until it ends.
        while shared.strong_count() != 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_thread_survives_a_job_that_panics() {
        let mut pool = Pool::new("test");
        let (done, is_done) = channel();
        pool.put(Box::new(|| std::panic::resume_unwind(Box::new(()))), 1)
            .unwrap();
        pool.put(Box::new(move || done.send(()).unwrap()), 1)
            .unwrap();
        is_done.recv().unwrap();
        pool.close();
    }
}

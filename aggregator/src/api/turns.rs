//! Queries take turns: so many at once, so many of one token. Who comes later waits a little, and tokens that wait are
//! served one after the other, so that a token with a thousand queries does not stand before one with a single one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::budget::{Budget, Budgets};

/// Queries of one token that wait. More are told to come again at once: each holds a connection and its request.
const WAITING_OF_TOKEN_MAX: usize = 256;

/// Why there was no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// The token has as many in work, or waiting, as it may have.
    Token,
    /// Its queries have taken as much as they may in a minute; something is left again after so long.
    Spent(Duration),
    /// Others have.
    Others,
}

/// Hands out turns.
pub(super) struct Turns {
    at_once: usize,
    at_once_of_token: usize,
    wait_max: Duration,
    state: Mutex<State>,
    budgets: Budgets,
}

#[derive(Default)]
struct State {
    running: usize,
    lines: HashMap<Arc<str>, Line>,
    /// Tokens that have somebody waiting, each once, who comes next first.
    order: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Line {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A query may run as long as this is held.
pub(super) struct Turn {
    /// `None` of one that was never handed over.
    of: Option<(Arc<Turns>, Arc<str>)>,
    /// What it is paid from, and since when.
    budget: Option<(Budget, Instant)>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((turns, token)) = self.of.take() {
            if let Some((budget, began)) = self.budget {
                turns.budgets.spend(&token, budget, began.elapsed());
            }
            let mut state = turns.state();
            state.running -= 1;
            if let Some(line) = state.lines.get_mut(&token) {
                line.running -= 1;
            }
            turns.advance(&mut state);
            state.forget(&token);
        }
    }
}

impl State {
    fn forget(&mut self, token: &Arc<str>) {
        if self.lines.get(token).is_some_and(|line| line.running == 0 && line.waiting.is_empty()) {
            self.lines.remove(token);
        }
    }
}

impl Turns {
    /// So many at once, so many of one token, and so long until somebody who waits is told to come again.
    pub(super) fn new(at_once: usize, at_once_of_token: usize, wait_max: Duration) -> Arc<Turns> {
        Arc::new(Turns {
            at_once,
            at_once_of_token,
            wait_max,
            state: Mutex::default(),
            budgets: Budgets::default(),
        })
    }

    /// Waits for a turn of `token`, which pays for it from its budget, if it has one.
    pub(super) async fn take(
        self: &Arc<Self>,
        token: &Arc<str>,
        budget: Option<Budget>,
    ) -> Result<Turn, Busy> {
        if let Some(budget) = budget {
            self.budgets.check(token, budget).map_err(Busy::Spent)?;
        }
        let coming = {
            let mut state = self.state();
            let (sender, receiver) = oneshot::channel();
            let line = state.lines.entry(token.clone()).or_default();
            if line.waiting.len() >= WAITING_OF_TOKEN_MAX {
                return Err(Busy::Token);
            }
            line.waiting.push_back(sender);
            if line.waiting.len() == 1 {
                state.order.push_back(token.clone());
            }
            self.advance(&mut state);
            receiver
        };
        match tokio::time::timeout(self.wait_max, coming).await {
            Ok(Ok(mut turn)) => {
                turn.budget = budget.map(|budget| (budget, Instant::now()));
                Ok(turn)
            }
            // The sender is kept until it hands a turn over.
            Ok(Err(_)) => Err(Busy::Others),
            Err(_) => {
                let state = self.state();
                let running = state.lines.get(token).map_or(0, |line| line.running);
                Err(if running >= self.at_once_of_token { Busy::Token } else { Busy::Others })
            }
        }
    }

    /// Hands out what is free, to the tokens in their order.
    fn advance(self: &Arc<Self>, state: &mut State) {
        let mut passed = 0;
        while state.running < self.at_once && passed < state.order.len() {
            let Some(token) = state.order.pop_front() else { return };
            let Some(line) = state.lines.get_mut(&token) else { continue };
            if line.running >= self.at_once_of_token {
                state.order.push_back(token);
                passed += 1;
                continue;
            }
            // One who has gone is passed over; what was made for him counts for nothing.
            while let Some(waiter) = line.waiting.pop_front() {
                match waiter.send(Turn { of: Some((self.clone(), token.clone())), budget: None }) {
                    Ok(()) => {
                        line.running += 1;
                        state.running += 1;
                        break;
                    }
                    Err(mut turn) => turn.of = None,
                }
            }
            match line.waiting.is_empty() {
                true => state.forget(&token),
                false => state.order.push_back(token),
            }
            passed = 0;
        }
    }

    /// Queries in work, and those that wait.
    pub(super) fn now(&self) -> (usize, usize) {
        let state = self.state();
        (state.running, state.lines.values().map(|line| line.waiting.len()).sum())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_with_many_does_not_stand_before_one_with_a_few() {
        let turns = Turns::new(2, 2, Duration::from_secs(10));
        let first = [
            turns.take(&token("many"), None).await.unwrap(),
            turns.take(&token("many"), None).await.unwrap(),
        ];
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for name in ["many", "many", "many", "few", "many"] {
            let (turns, order) = (turns.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let turn = turns.take(&token(name), None).await.unwrap();
                order.lock().unwrap().push(name);
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop(turn);
            }));
            tokio::task::yield_now().await;
        }
        assert_eq!(turns.now(), (2, 5));
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.lock().unwrap().clone();
        assert!(order[..2].contains(&"few"), "{order:?}");
        assert_eq!(turns.now(), (0, 0));
        assert!(turns.state().lines.is_empty() && turns.state().order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_why() {
        let turns = Turns::new(2, 1, Duration::from_millis(100));
        let held = turns.take(&token("a"), None).await.unwrap();
        assert_eq!(turns.take(&token("a"), None).await.err(), Some(Busy::Token));
        let other = turns.take(&token("b"), None).await.unwrap();
        assert_eq!(turns.take(&token("c"), None).await.err(), Some(Busy::Others));
        drop((held, other));
        // Those who went away hold nothing up.
        drop(turns.take(&token("a"), None).await.unwrap());
        assert_eq!(turns.now(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_spent_a_minutes_worth_comes_again_later() {
        let turns = Turns::new(2, 2, Duration::from_secs(10));
        let budget = Some(Budget(Duration::from_secs(30)));
        let turn = turns.take(&token("a"), budget).await.unwrap();
        tokio::time::advance(Duration::from_secs(31)).await;
        drop(turn);
        assert_eq!(turns.take(&token("a"), budget).await.err(), Some(Busy::Spent(Duration::from_secs(2))));
        drop(turns.take(&token("b"), budget).await.unwrap());
        drop(turns.take(&token("a"), None).await.unwrap());
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(turns.take(&token("a"), budget).await.unwrap());
    }
}

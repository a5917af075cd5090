// The machines of the election, in virtual time: no timers, no locks, no storage.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as inquiry from '../../src/election/inquiry.js';
import * as lease from '../../src/election/lease.js';
import { Lock, Order as LockOrder, granted, rejected } from '../../src/election/lock.js';
import * as theft from '../../src/election/theft.js';
import * as follow from '../../src/election/follow.js';
import * as watchdog from '../../src/election/watchdog.js';

const { Alarm } = watchdog;
const DAY = 86_400_000;

test('lock: who is robbed asks again, and who may have none gives up', () => {
  const one = { _lock: Lock.Waiting };
  assert.equal(granted(one), LockOrder.Take);
  assert.equal(rejected(one, false), LockOrder.AskAgain);
  assert.equal(one._lock, Lock.Waiting);
  assert.equal(rejected(one, false), LockOrder.GiveUp);
  assert.equal(one._lock, Lock.Over);
});

test('lock: who can do without takes a refusal for a grant, and no second one', () => {
  const one = { _lock: Lock.Waiting };
  assert.equal(rejected(one, true), LockOrder.Take);
  assert.equal(one._lock, Lock.Held);
  assert.equal(granted(one), LockOrder.None);
});

test('lock: what comes after the end is nothing', () => {
  const one = { _lock: Lock.Over };
  assert.equal(granted(one), LockOrder.None);
  assert.equal(rejected(one, true), LockOrder.None);
  assert.equal(one._lock, Lock.Over);
});

test('theft: one is planned at a time, and after one there is a cooldown', () => {
  const thief = theft.theft();
  assert.ok(theft.plan(thief));
  assert.ok(!theft.plan(thief), 'it is planned already');
  assert.ok(theft.answered(thief, true, true, 1000));
  assert.ok(!theft.plan(thief), 'it has stolen just now');
  assert.equal(theft.remaining(thief, 1000), theft.COOLDOWN_MS);
  assert.equal(theft.remaining(thief, 30_999), 1);
  assert.ok(!theft.plan(thief));
  assert.equal(theft.remaining(thief, 31_000), 0);
  assert.ok(theft.plan(thief));
});

test('theft: nothing is stolen while another cools down, nor what is wanted no more', () => {
  const thief = theft.theft();
  for (const [isGranted, isWanted] of [[false, true], [true, false], [false, false]] as const) {
    assert.ok(theft.plan(thief));
    assert.ok(!theft.answered(thief, isGranted, isWanted, 0));
    assert.equal(theft.remaining(thief, 0), 0);
  }
  assert.ok(theft.plan(thief));
});

test('theft: a cooldown that was slept through is over', () => {
  const thief = theft.theft();
  theft.plan(thief);
  theft.answered(thief, true, true, 0);
  assert.equal(theft.remaining(thief, DAY), 0);
});

/** A lease and what is written of it, in virtual time. */
class Tab {
  static entry = '';
  static now = 0;
  readonly it: lease.Lease;
  isLeading = false;

  constructor(name: string) {
    this.it = lease.lease(name);
  }

  do(step: (it: lease.Lease, entry: string, now: number) => lease.Order): lease.Order {
    return this.carryOut(step(this.it, Tab.entry, Tab.now));
  }

  carryOut(order: lease.Order): lease.Order {
    if (order & lease.Order.Write) Tab.entry = lease.entryOf(this.it, Tab.now);
    if (order & lease.Order.Remove) Tab.entry = '';
    if (order & lease.Order.Resign) this.isLeading = false;
    if (order & lease.Order.Lead) this.isLeading = true;
    return order;
  }

  release(): lease.Order {
    return this.carryOut(lease.release(this.it, () => Tab.entry, Tab.now));
  }
}

/** Time passes to that moment: each tab looks when it wants to. */
function pass(until: number, ...tabs: Tab[]): void {
  for (;;) {
    const [next] = [...tabs].sort((one, other) => one.it._lookAt - other.it._lookAt);
    if (!next || next.it._lookAt > until) break;
    Tab.now = next.it._lookAt;
    next.do(lease.look);
  }
  Tab.now = until;
}

/** The lease as it was before, and tabs that have looked once. */
function tabs(entry: string, ...names: string[]): Tab[] {
  [Tab.entry, Tab.now] = [entry, 1_000_000];
  return names.map((name) => {
    const tab = new Tab(name);
    tab.do(lease.look);
    return tab;
  });
}

test('lease: one that nobody has is taken, and held once it was read again', () => {
  const [tab] = tabs('', 'a') as [Tab];
  assert.equal(Tab.entry, 'a:1000000');
  assert.ok(!tab.isLeading);
  pass(1_000_249, tab);
  assert.ok(!tab.isLeading);
  pass(1_000_250, tab);
  assert.ok(tab.isLeading);
  assert.equal(tab.it._lookAt, Infinity);
});

test('lease: of several that took it at once, the last to write has it', () => {
  const all = ['a', 'b', 'c'].map((name) => new Tab(name));
  [Tab.entry, Tab.now] = ['', 1_000_000];
  // None has seen what another wrote.
  const orders = all.map(({ it }) => lease.look(it, '', Tab.now));
  all.forEach((tab, index) => tab.carryOut(orders[index] as lease.Order));
  pass(1_002_000, ...all);
  assert.deepEqual(all.map(({ isLeading }) => isLeading), [false, false, true]);
});

test('lease: one that ran out settles for longer, since its holder may come back', () => {
  const [tab] = tabs('dead:994999', 'a') as [Tab];
  assert.equal(Tab.entry, 'a:1000000');
  pass(1_001_499, tab);
  assert.ok(!tab.isLeading);
  pass(1_001_500, tab);
  assert.ok(tab.isLeading);
});

test('lease: one that is fresh is looked at each second, until it runs out', () => {
  const [tab] = tabs('b:999000', 'a') as [Tab];
  assert.equal(tab.it._lookAt, 1_001_000);
  pass(1_004_000, tab);
  assert.equal(Tab.entry, 'b:999000');
  pass(1_005_000, tab);
  assert.equal(Tab.entry, 'a:1005000');
});

test('lease: who takes it loses it to one who wrote later', () => {
  const [tab] = tabs('', 'a') as [Tab];
  Tab.entry = 'b:1000100';
  pass(1_000_250, tab);
  assert.ok(!tab.isLeading);
  assert.equal(Tab.entry, 'b:1000100');
  assert.equal(tab.it._claim, lease.Claim.None);
});

test('lease: it is renewed while it is held, and lost to another at the next renewal', () => {
  const [tab] = tabs('', 'a') as [Tab];
  pass(1_001_000, tab);
  assert.equal(tab.do(lease.renew), lease.Order.Write);
  Tab.entry = 'b:1000900';
  assert.equal(tab.do(lease.renew), lease.Order.Resign);
  assert.ok(!tab.isLeading);
  assert.equal(Tab.entry, 'b:1000900');
  assert.equal(tab.do(lease.renew), lease.Order.None);
});

test('lease: a change tells who lost it, and that it was given up', () => {
  const [first, second] = tabs('', 'a', 'b') as [Tab, Tab];
  pass(1_001_000, first);
  assert.equal(first.do(lease.changed), lease.Order.None, 'a change of its own');
  assert.equal(second.do(lease.changed), lease.Order.None, 'it is not given up');
  assert.equal(first.release(), lease.Order.Remove);
  assert.equal(second.do(lease.changed), lease.Order.Write);
  pass(1_001_250, second);
  assert.ok(second.isLeading);
  Tab.entry = 'c:1001250';
  assert.equal(second.do(lease.changed), lease.Order.Resign);
});

test('lease: who slept while another took it never removes what that wrote', () => {
  const [tab] = tabs('', 'a') as [Tab];
  pass(1_001_000, tab);
  Tab.entry = 'b:2000000';
  Tab.now = 2_000_000;
  assert.equal(tab.release(), lease.Order.None);
  assert.equal(Tab.entry, 'b:2000000');
});

test('lease: on the way out a fresh one is not read again', () => {
  const [tab] = tabs('', 'a') as [Tab];
  pass(1_001_000, tab);
  tab.do(lease.renew);
  const order = lease.release(tab.it, () => assert.fail('it was read'), Tab.now + 4999);
  assert.equal(order, lease.Order.Remove);
});

test('lease: what has no meaning, and what is from the future, is nobody\'s', () => {
  for (const entry of ['x', ':', 'abc:def', `b:${1_000_000 + DAY}`]) {
    const [tab] = tabs(entry, 'a') as [Tab];
    assert.equal(Tab.entry, 'a:1000000', entry);
    pass(1_000_250, tab);
    assert.ok(tab.isLeading, entry);
  }
});

test('watchdog: a silent hub is asked, and dead if nothing comes until the next look', () => {
  const dog = watchdog.watchdog(5000);
  watchdog.watch(dog, 0);
  assert.equal(watchdog.look(dog, 4999), Alarm.None);
  assert.equal(watchdog.look(dog, 5000), Alarm.Ask);
  assert.equal(watchdog.look(dog, 7500), Alarm.Dead);
  assert.equal(watchdog.look(dog, 10_000), Alarm.None, 'the next hub has as long');
});

test('watchdog: a word of the hub calms it, also after the question', () => {
  const dog = watchdog.watchdog(5000);
  watchdog.watch(dog, 0);
  watchdog.hear(dog, 4000);
  assert.equal(watchdog.look(dog, 8999), Alarm.None);
  assert.equal(watchdog.look(dog, 9000), Alarm.Ask);
  watchdog.hear(dog, 9100);
  assert.equal(watchdog.look(dog, 11_500), Alarm.None);
});

test('watchdog: after a sleep the hub is asked first', () => {
  const dog = watchdog.watchdog(5000);
  watchdog.watch(dog, 0);
  assert.equal(watchdog.look(dog, DAY), Alarm.Ask);
  watchdog.hear(dog, DAY + 1);
  assert.equal(watchdog.look(dog, DAY + 2500), Alarm.None);
});

test('watchdog: at rest it gives no alarm, and what it hears does not wake it', () => {
  const dog = watchdog.watchdog(5000);
  assert.equal(watchdog.look(dog, DAY), Alarm.None);
  watchdog.watch(dog, DAY);
  watchdog.rest(dog);
  watchdog.hear(dog, DAY);
  assert.equal(watchdog.look(dog, 2 * DAY), Alarm.None);
});

const { Order: Step } = inquiry;

test('inquiry: a holder that does not answer is robbed', () => {
  const one = inquiry.asker();
  assert.equal(inquiry.ask(one, 0), Step.Ask);
  assert.equal(inquiry.wake(one, inquiry.ANSWER_MS), Step.Rob);
});

test('inquiry: after a sleep nobody is robbed, but asked again', () => {
  const one = inquiry.asker();
  inquiry.ask(one, 0);
  assert.equal(inquiry.wake(one, 2 * inquiry.ANSWER_MS), Step.Ask);
  assert.equal(inquiry.wake(one, 3 * inquiry.ANSWER_MS), Step.Rob);
});

test('inquiry: a holder of this build that answers twice has the tabs', () => {
  const one = inquiry.asker();
  inquiry.ask(one, 0);
  assert.equal(inquiry.answer(one, true, 100), Step.None, 'it may be just leaving');
  assert.equal(inquiry.wake(one, 5100), Step.Ask);
  assert.equal(inquiry.answer(one, true, 5200), Step.Move);
});

test('inquiry: a holder of another build is left alone', () => {
  const one = inquiry.asker();
  inquiry.ask(one, 0);
  assert.equal(inquiry.answer(one, false, 100), Step.Share);
  assert.equal(inquiry.wake(one, 5000), Step.None);
});

test('inquiry: once the lock is held nobody is asked or robbed', () => {
  const one = inquiry.asker();
  inquiry.ask(one, 0);
  inquiry.stop(one);
  assert.equal(inquiry.wake(one, inquiry.ANSWER_MS), Step.None);
});

test('lease: one that ran out, or was cleared, is left alone while a host speaks', () => {
  for (const entry of ['dead:900000', '']) {
    const it = lease.lease('a');
    assert.equal(lease.look(it, entry, 1_000_000, true), lease.Order.None);
    assert.equal(it._lookAt, 1_001_000);
    assert.equal(lease.look(it, entry, 1_001_000, false), lease.Order.Write);
  }
});

test('lease: its holder writes it again where it was cleared', () => {
  const [tab] = tabs('', 'a') as [Tab];
  pass(1_001_000, tab);
  Tab.entry = '';
  assert.equal(tab.do(lease.changed), lease.Order.Write);
  assert.ok(tab.isLeading);
});

test('follow: a tab hears its own host alone', () => {
  const it = follow.follower();
  assert.equal(follow.heard(it, 5n, false, 0), follow.Order.Follow);
  assert.equal(follow.heard(it, 6n, false, 4999), follow.Order.Ignore);
  assert.equal(follow.heard(it, 5n, false, 4999), follow.Order.Hear);
  assert.equal(follow.heard(it, 6n, false, 9998), follow.Order.Ignore);
});

test('follow: a host that is silent and gives no answer is left for another', () => {
  const it = follow.follower();
  follow.heard(it, 5n, false, 0);
  assert.equal(follow.heard(it, 6n, false, 5000), follow.Order.Ask);
  assert.equal(follow.heard(it, 6n, false, 5999), follow.Order.Ignore);
  assert.equal(follow.heard(it, 6n, false, 6000), follow.Order.Follow);
});

test('follow: after a sleep the host has time to answer', () => {
  const it = follow.follower();
  follow.heard(it, 5n, false, 0);
  assert.equal(follow.heard(it, 6n, false, DAY), follow.Order.Ask);
  assert.equal(follow.heard(it, 5n, false, DAY + 10), follow.Order.Hear);
  assert.equal(follow.heard(it, 6n, false, DAY + 2000), follow.Order.Ignore);
});

test('follow: an heir is followed at once', () => {
  const it = follow.follower();
  follow.heard(it, 5n, false, 0);
  assert.equal(follow.heard(it, 6n, true, 1), follow.Order.Follow);
});

test('follow: of two hosts the older goes on, or that which has the lock of the link', () => {
  const [old, young] = [{ _id: 5n, _stays: false }, { _id: 6n, _stays: false }];
  assert.ok(follow.wins(old, young, true) && !follow.wins(young, old, true));
  const stays = { _id: 7n, _stays: true };
  assert.ok(follow.wins(stays, old, true) && !follow.wins(old, stays, true));
  assert.ok(follow.wins(old, stays, false) && !follow.wins(stays, old, false));
});

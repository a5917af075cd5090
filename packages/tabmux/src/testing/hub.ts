// What the hubs of a test bed have in common: the attached tabs, and what is posted to them.

import { HubKind, LinkState, PageKind } from '../protocol.js';
import type { Data, HubConfig, HubMessage, PageMessage } from '../protocol.js';
import type { Clock } from './clock.js';
import type { InnerServer } from './server.js';

/** What hubs need of the test bed. */
export interface HubWorld {
  readonly clock: Clock;
  readonly server: InnerServer;
  /** Whether the browser reaches the server. */
  isOnline(): boolean;
  /** Whose the browser is, as names of hubs have it; nothing where the server knows no users. */
  user(): string | undefined;
}

/** The hub's end of a port. */
export interface HubEnd {
  post(message: HubMessage): void;
}

/** A tab at a hub. */
export interface Seat {
  end: HubEnd;
  /** False while the page is in the back/forward cache, or has yet to attach to this run. */
  isThere: boolean;
  /** The number of what the tab said last. */
  said: number;
}

/** What a page counts of what it says. */
type Said = Extract<PageMessage,
  { 0: PageKind.Open | PageKind.Send | PageKind.Close | PageKind.Credit }>;

let hubs = 0n;

/** One hub. It keeps the part of the server that knows this browser as well. */
export abstract class TestHub<S extends Seat = Seat> {
  readonly seats = new Map<bigint, S>();
  protected id = (hubs += 1n);
  protected state = LinkState.Idle;
  protected reason = '';

  constructor(
    protected readonly world: HubWorld,
    protected readonly config: HubConfig,
  ) {}

  hear(tab: bigint, end: HubEnd, message: PageMessage): void {
    const seat = this.seats.get(tab);
    switch (message[0]) {
      case PageKind.Attach:
        return this.#attach(tab, end, message[4], message[5]);
      case PageKind.Park:
        if (!seat) return;
        seat.isThere = false;
        return this.parked(seat);
      case PageKind.Bye:
        return this.leave(tab);
      case PageKind.Open:
      case PageKind.Send:
      case PageKind.Close:
      case PageKind.Credit:
        // A page says again what it does not know to have been received.
        if (!seat || message[1] !== seat.said + 1) return;
        seat.said = message[1];
        this.said(seat, message);
        return;
      case PageKind.Subscribe:
        if (seat) this.subscribe(seat, message[1], message[2], message[3], message[4]);
        return;
      case PageKind.Unsubscribe:
        if (seat) this.unsubscribe(seat, message[1]);
        return;
      case PageKind.Whose:
        if (seat) this.post(seat, [HubKind.User, this.id, 1, this.world.user() ?? '']);
        return;
      case PageKind.Logout:
        return this.logout();
      case PageKind.Answer:
        return this.answered(message[2], message[3]);
      case PageKind.Reconnect:
        return this.reconnect();
      case PageKind.Got:
      case PageKind.Renew:
      case PageKind.Wake:
      case PageKind.Pong:
      case PageKind.Trap:
        return;
    }
  }

  /** Whether it has a connection without tabs, for which its worker stays. */
  get lingers(): boolean {
    return false;
  }

  /** The tab is gone, for whatever reason. */
  leave(tab: bigint): void {
    const seat = this.seats.get(tab);
    if (!seat) return;
    this.seats.delete(tab);
    this.left(seat);
    this.show();
  }

  /** The worker's process dies, and another run of it has the ports. */
  crash(): void {
    this.id = hubs += 1n;
    this.died();
    for (const seat of this.seats.values()) {
      seat.isThere = false;
      seat.end.post([HubKind.Resync, this.id]);
    }
  }

  /** The link breaks. It comes back after `wait`, or when the browser is online again. */
  abstract cut(wait: number): void;
  /** The browser is online again. */
  abstract wake(): void;
  /** The server forgets all that it knew. */
  abstract restart(): void;
  /** A page ends the session. */
  protected abstract logout(): void;

  protected abstract newSeat(end: HubEnd): S;
  /** Answers an attached page by `Resume` or `Renew`, as soon as that can be said. */
  protected abstract welcome(seat: S, last0: number, last: number): void;
  protected abstract said(seat: S, message: Said): void;
  protected abstract left(seat: S): void;
  /** The tab is in the back/forward cache. */
  protected parked(_seat: S): void {
    // Most hubs go on.
  }
  /** A tab asks for a new link. */
  protected reconnect(): void {
    // A link that works is as good as a new one.
  }
  protected abstract died(): void;
  protected abstract subscribe(
    seat: S, number: number, name: string, epoch: number, offset: number): void;
  /** A page said where the link goes, or why it does not know. */
  protected abstract answered(address: string[], failure: string): void;
  protected abstract unsubscribe(seat: S, number: number): void;

  #attach(tab: bigint, end: HubEnd, last0: number, last: number): void {
    const seat = this.seats.get(tab) ?? this.newSeat(end);
    this.seats.set(tab, seat);
    seat.end = end;
    seat.isThere = true;
    this.post(seat, [HubKind.Attached, this.id, this.state, this.seats.size]);
    this.show();
    this.welcome(seat, last0, last);
  }

  protected post(seat: S, message: HubMessage): void {
    if (seat.isThere) seat.end.post(message);
  }

  protected postAll(message: HubMessage): void {
    this.seats.forEach((seat) => this.post(seat, message));
  }

  protected show(state = this.state, reason = ''): void {
    this.state = state;
    this.reason = reason;
    this.postAll([HubKind.State, this.id, state, this.seats.size, reason]);
  }

  /** Does something when it has travelled between hub and server. */
  protected travel(act: () => void): void {
    const { clock, server } = this.world;
    if (server.latency > 0) clock.after(server.latency, act);
    else act();
  }
}

/** A copy, as ports make it. */
export const copy = (data: Data): Data => (typeof data === 'string' ? data : data.slice());

/** The `answer` of a server that takes the first sub-protocol. */
export const answer = (protocols: readonly string[]): string => `${protocols[0] ?? ''}\n`;

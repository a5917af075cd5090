// The common part of the hubs of a test bed: the attached tabs, and the messages posted to them.

import { HubKind, LinkState, PageKind } from '../protocol.js';
import type { Data, HubConfig, HubMessage, PageMessage } from '../protocol.js';
import type { Clock } from './clock.js';
import type { InnerServer } from './server.js';

/** The parts of the test bed that hubs use. */
export interface HubWorld {
  readonly clock: Clock;
  readonly server: InnerServer;
  /** Returns true if the browser reaches the server. */
  isOnline(): boolean;
  /**
   * Returns the user's tag as names of hubs contain it, or undefined if the server knows no users.
   */
  user(): string | undefined;
}

/** The hub's end of a port. */
export interface HubEnd {
  post(message: HubMessage): void;
}

/** A tab that is attached to a hub. */
export interface Seat {
  end: HubEnd;
  /** False while the page is in the back/forward cache, or has not yet attached to this run. */
  isThere: boolean;
  /** The number of the tab's last reliable message. */
  said: number;
}

/** The messages of a page that are counted. */
type Said = Extract<PageMessage,
  { 0: PageKind.Open | PageKind.Send | PageKind.Close | PageKind.Credit }>;

let hubs = 0n;

/** One hub. It also keeps the server's state of this browser. */
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
        // A page repeats messages if it does not know that they were received.
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

  /** True if the hub keeps a connection without tabs, so that its worker stays. */
  get lingers(): boolean {
    return false;
  }

  /** Forgets a tab that is gone, for whatever reason. */
  leave(tab: bigint): void {
    const seat = this.seats.get(tab);
    if (!seat) return;
    this.seats.delete(tab);
    this.left(seat);
    this.show();
  }

  /** Simulates the death of the worker's process. Another run of the worker gets the ports. */
  crash(): void {
    this.id = hubs += 1n;
    this.died();
    for (const seat of this.seats.values()) {
      seat.isThere = false;
      seat.end.post([HubKind.Resync, this.id]);
    }
  }

  /** Breaks the link. It comes back after `wait` ms, or when the browser is online again. */
  abstract cut(wait: number): void;
  /** Called when the browser is online again. */
  abstract wake(): void;
  /** Called when the server restarts and has forgotten everything. */
  abstract restart(): void;
  /** Called when a page ends the session. */
  protected abstract logout(): void;

  protected abstract newSeat(end: HubEnd): S;
  /** Answers an attached page by `Resume` or `Renew`, as soon as the hub can. */
  protected abstract welcome(seat: S, last0: number, last: number): void;
  protected abstract said(seat: S, message: Said): void;
  protected abstract left(seat: S): void;
  /** Called when the tab goes into the back/forward cache. */
  protected parked(_seat: S): void {
    // Most hubs go on without a change.
  }
  /** Called when a tab asks for a new link. */
  protected reconnect(): void {
    // The link works, which is as good as a new one.
  }
  protected abstract died(): void;
  protected abstract subscribe(
    seat: S, number: number, name: string, epoch: number, offset: number): void;
  /** Called with the address that a page gave for the link, or with the reason why it gave none. */
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

  /** Calls `act` once it has travelled between hub and server. */
  protected travel(act: () => void): void {
    const { clock, server } = this.world;
    if (server.latency > 0) clock.after(server.latency, act);
    else act();
  }
}

/** Returns a copy of the message, as a port makes it. */
export const copy = (data: Data): Data => (typeof data === 'string' ? data : data.slice());

/** Returns the `answer` of a server that chooses the first sub-protocol. */
export const answer = (protocols: readonly string[]): string => `${protocols[0] ?? ''}\n`;

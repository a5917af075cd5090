// A hub in mux mode: virtual sockets, topics and messages to all tabs, in one session.

import { HubKind, Limit, LinkState, PageKind } from '../protocol.js';
import type { CountedMessage, Data, HubConfig, PageMessage } from '../protocol.js';
import { TestHub, answer, copy } from './hub.js';
import type { HubEnd, HubWorld, Seat } from './hub.js';
import type { InnerSocket } from './server.js';

/**
 * Time for which a session outlives its link, in milliseconds. It is the default of the server's
 * `detached_ms`.
 */
export const DETACHED_MS = 210_000;

/** Credit that is so large that no socket waits for more. */
const CREDIT = 2 ** 40;

interface Subscription {
  readonly name: string;
  epoch: number;
  offset: number;
}

interface MuxSeat extends Seat {
  /** The number of the session that knows this tab, or 0 for none. */
  session: number;
  sockets: Map<number, InnerSocket>;
  subscriptions: Map<number, Subscription>;
  /** The messages of the tab's lane, and how many of them were posted. */
  lane: CountedMessage[];
  posted: number;
  /** Number of messages of lane 0 that were posted. */
  posted0: number;
}

export class MuxHub extends TestHub<MuxSeat> {
  #session = 1;
  /** The messages to all tabs in this session. */
  #lane0: Data[] = [];
  #cuts = 0;
  /** The tag of the link's user. */
  #user: string | undefined;

  constructor(world: HubWorld, config: HubConfig) {
    super(world, config);
    this.#dial();
  }

  cut(wait: number): void {
    const mine = (this.#cuts += 1);
    this.show(LinkState.Backoff, 'tabmux: the link was closed (1006 )');
    const { clock } = this.world;
    clock.after(wait, () => mine === this.#cuts && this.#dial());
    clock.after(DETACHED_MS, () => mine === this.#cuts && this.#expire());
  }

  wake(): void {
    if (this.state === LinkState.Backoff) this.#dial();
  }

  restart(): void {
    this.#expire();
    this.cut(0);
  }

  publish(): void {
    if (this.state === LinkState.Connected) {
      this.seats.forEach((seat) => this.travel(() => this.#deliverTopics(seat)));
    }
  }

  broadcast(data: Data): void {
    this.#lane0.push(copy(data));
    if (this.state === LinkState.Connected) {
      this.seats.forEach((seat) => this.travel(() => this.#deliverLanes(seat)));
    }
  }

  protected newSeat(end: HubEnd): MuxSeat {
    return {
      end, isThere: true, said: 0, session: 0, sockets: new Map(), subscriptions: new Map(),
      lane: [], posted: 0, posted0: 0,
    };
  }

  protected welcome(seat: MuxSeat, last0: number, last: number): void {
    // The page posts its subscriptions again after it has attached.
    seat.subscriptions.clear();
    seat.posted0 = last0;
    seat.posted = last;
    if (this.state === LinkState.Connected) this.#admit(seat);
  }

  protected said(seat: MuxSeat, message: PageMessage): void {
    if (message[0] === PageKind.Open) {
      this.#open(seat, message[2], message[3], message[4]);
    } else if (message[0] === PageKind.Send) {
      const socket = seat.sockets.get(message[2]);
      const data = copy(message[3]);
      this.travel(() => socket?.heard(data));
    } else if (message[0] === PageKind.Close) {
      const [, , number, code, reason] = message;
      const socket = seat.sockets.get(number);
      seat.sockets.delete(number);
      socket?.ended(code || 1005, reason);
      if (socket) {
        this.#count(seat, (n) => [HubKind.Closed, this.id, number, n, code || 1005, 1, reason]);
      }
    }
    this.post(seat, [HubKind.Sent, this.id, seat.said]);
    this.post(seat, [HubKind.Seen, this.id, seat.said]);
  }

  protected left(seat: MuxSeat): void {
    seat.sockets.forEach((socket) => socket.ended(1001, ''));
  }

  protected died(): void {
    // The session outlives its hub, so nothing ends here.
  }

  protected subscribe(
    seat: MuxSeat, number: number, name: string, epoch: number, offset: number): void {
    const refusal = this.world.server.refuse({ topic: name });
    if (refusal !== undefined) {
      const reason = `tabmux: ${name} is refused: ${refusal}`;
      return this.post(seat, [HubKind.Unsubscribed, this.id, number, reason]);
    }
    const subscription = { name, epoch, offset };
    seat.subscriptions.set(number, subscription);
    if (this.state === LinkState.Connected) this.#deliverTopic(seat, number, subscription);
  }

  protected logout(): void {
    const reason = 'tabmux: logged out';
    this.#cuts += 1;
    this.#expire();
    this.postAll([HubKind.Lost, this.id, reason]);
    this.show(LinkState.Refused, reason);
  }

  protected answered(): void {
    // The hub asks for no address, because its server is that of the test bed.
  }

  protected unsubscribe(seat: MuxSeat, number: number): void {
    seat.subscriptions.delete(number);
  }

  #dial(): void {
    this.show(LinkState.Connecting);
    this.world.clock.soon(() => this.travel(() => {
      if (this.state !== LinkState.Connecting) return;
      if (!this.world.isOnline()) return this.show(LinkState.Backoff, 'tabmux: offline');
      this.#cuts += 1;
      if (!this.#isOf(this.world.user())) return;
      this.show(LinkState.Connected);
      this.seats.forEach((seat) => seat.isThere && this.#admit(seat));
    }));
  }

  /**
   * Called when the link belongs to this user. A hub of another user sends its tabs to the hub of
   * this one.
   */
  #isOf(user: string | undefined): boolean {
    const before = this.#user;
    this.#user = user;
    if (before === undefined || user === undefined || before === user) return true;
    this.#expire();
    this.show(LinkState.Idle);
    this.postAll([HubKind.Elsewhere, this.id, user]);
    return false;
  }

  /** Tells a tab whether the session goes on, and posts what it has missed. */
  #admit(seat: MuxSeat): void {
    if (this.#user !== undefined) this.post(seat, [HubKind.User, this.id, 0, this.#user]);
    if (seat.session === this.#session) {
      this.post(seat, [HubKind.Resume, this.id, seat.said, 'test']);
    } else {
      Object.assign(seat, { session: this.#session, said: 0, lane: [], posted: 0 });
      seat.posted0 = this.#lane0.length;
      this.post(seat, [HubKind.Renew, this.id, 0, seat.posted0, 'test']);
    }
    this.#deliverLanes(seat);
    this.#deliverTopics(seat);
  }

  /** Ends the session with all its sockets. */
  #expire(): void {
    this.#session += 1;
    this.#lane0 = [];
    for (const seat of this.seats.values()) {
      seat.sockets.forEach((socket) => socket.ended(1006, ''));
      seat.sockets.clear();
    }
  }

  #open(seat: MuxSeat, number: number, path: string, protocols: string[]): void {
    const { server } = this.world;
    const url = new URL(path, this.config.url).href;
    const refusal = server.refuse({ socket: url });
    this.travel(() => {
      if (refusal !== undefined) {
        this.post(seat, [HubKind.Error, this.id, number, `tabmux: ${refusal}`]);
        this.#count(seat, (n) => [HubKind.Closed, this.id, number, n, 1006, 0, '']);
        return;
      }
      seat.sockets.set(number, server.accept('mux', url, protocols, {
        deliver: (data) => this.#count(seat, (n) =>
          [HubKind.Message, this.id, number, n, data.length + Limit.Message, copy(data)]),
        end: (code, reason) => {
          seat.sockets.delete(number);
          this.#count(seat, (n) => [HubKind.Closed, this.id, number, n, code, 1, reason]);
        },
      }));
      this.#count(seat, (n) => [HubKind.Opened, this.id, number, n, CREDIT, answer(protocols)]);
    });
  }

  /** Adds a message to the tab's lane, with its number in the lane. */
  #count(seat: MuxSeat, make: (n: number) => CountedMessage): void {
    seat.lane.push(make(seat.lane.length + 1));
    this.travel(() => this.state === LinkState.Connected && this.#deliverLanes(seat));
  }

  #deliverLanes(seat: MuxSeat): void {
    if (!seat.isThere || seat.session !== this.#session) return;
    for (; seat.posted0 < this.#lane0.length; seat.posted0 += 1) {
      const data = copy(this.#lane0[seat.posted0] as Data);
      this.post(seat, [HubKind.Browser, this.id, seat.posted0 + 1, data]);
    }
    for (; seat.posted < seat.lane.length; seat.posted += 1) {
      const message = [...seat.lane[seat.posted] as CountedMessage] as CountedMessage;
      // The message may have been made before this run of the hub.
      message[1] = this.id;
      this.post(seat, message);
    }
  }

  #deliverTopics(seat: MuxSeat): void {
    seat.subscriptions.forEach((subscription, number) =>
      this.#deliverTopic(seat, number, subscription));
  }

  /** Tells a subscriber the topic's position, and posts the publications since its own. */
  #deliverTopic(seat: MuxSeat, number: number, subscription: Subscription): void {
    if (!seat.isThere) return;
    const { epoch, last, history } = this.world.server.topic(subscription.name);
    const isNew = subscription.epoch < 0;
    const oldest = history[0]?.offset ?? last + 1;
    const isMissing = !isNew && (subscription.epoch !== epoch || subscription.offset + 1 < oldest);
    if (isNew || isMissing) {
      Object.assign(subscription, { epoch, offset: isNew ? last : oldest - 1 });
      this.post(seat, [HubKind.Subscribed, this.id, number, epoch, subscription.offset]);
    }
    if (isMissing) this.post(seat, [HubKind.Gap, this.id, number, epoch, subscription.offset]);
    for (const { offset, data } of history) {
      if (offset <= subscription.offset) continue;
      subscription.offset = offset;
      this.post(seat, [HubKind.Publication, this.id, number, epoch, offset, copy(data)]);
    }
  }
}

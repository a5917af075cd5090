// A hub in mirror mode: one connection, and a view of it for each socket of each tab.

import { HubKind, LinkState, PageKind } from '../protocol.js';
import type { Data, HubMessage, PageMessage } from '../protocol.js';
import { TestHub, answer, copy } from './hub.js';
import type { HubEnd, Seat } from './hub.js';
import type { InnerSocket } from './server.js';

/** Close codes by which a server says that it goes away or is in trouble. They begin an outage. */
const OUTAGES = [1001, 1011, 1012, 1013, 1014];

/** The time from the break of an open connection until the next one is open. */
interface Outage {
  /**
   * Number of dials that are left, and the wait before the next one. There is no jitter, unlike in
   * a real hub.
   */
  left: number;
  wait: number;
  /** Messages that were sent during the outage. */
  readonly kept: Data[];
  /** True while the next dial waits for its time. */
  waits: boolean;
}

interface MirrorSeat extends Seat {
  /** The views by number. The value is true if the view is open. */
  views: Map<number, boolean>;
  /** The name of the tab for `routeBy`. */
  name: string;
  /** Messages that arrived while the page was in the back/forward cache. */
  held: Data[];
  isKnown: boolean;
}

export class MirrorHub extends TestHub<MirrorSeat> {
  #link: InnerSocket | undefined;
  #dials = 0;
  #isDialling = false;
  /** The last messages, which late tabs get too. */
  #last: Data[] = [];
  /** The current outage. Views stay open until the next connection is open. */
  #outage: Outage | undefined;

  cut(): void {
    // A connection that is not dialled yet cannot be cut.
    if (this.#outage?.waits) return;
    this.#dials += 1;
    const link = this.#link;
    link?.ended(1006, '');
    if (!link || !this.#begins()) this.#endAll(1006, '', 'tabmux: the connection was lost');
  }

  wake(): void {
    if (this.#outage?.waits) this.#redial();
  }

  restart(): void {
    this.cut();
  }

  override get lingers(): boolean {
    return !!this.#link && !!this.config.rules.linger;
  }

  protected newSeat(end: HubEnd): MirrorSeat {
    return { end, isThere: true, said: 0, name: '', views: new Map(), held: [], isKnown: false };
  }

  protected welcome(seat: MirrorSeat): void {
    if (!seat.isKnown) {
      seat.isKnown = true;
      seat.said = 0;
      return this.post(seat, [HubKind.Renew, this.id, 0, 1, 'test']);
    }
    this.post(seat, [HubKind.Resume, this.id, seat.said, 'test']);
    seat.held.splice(0).forEach((data) => this.post(seat, [HubKind.Mirror, this.id, data]));
  }

  protected said(seat: MirrorSeat, message: PageMessage): void {
    if (message[0] === PageKind.Open) {
      seat.views.set(message[2], false);
      seat.name = message[3];
      if (this.#link) this.#join(seat, message[2], 1);
      else this.#dial();
    } else if (message[0] === PageKind.Send) {
      const link = this.#link;
      const data = copy(message[3]);
      if (this.#outage) this.#outage.kept.push(data);
      else this.travel(() => link?.heard(data));
      this.post(seat, [HubKind.Sent, this.id, message[1]]);
    } else if (message[0] === PageKind.Close) {
      const [, , socket, code, reason] = message;
      if (!seat.views.delete(socket)) return;
      this.#closeUnused(code, reason);
      this.post(seat, [HubKind.Ended, this.id, socket, code || 1005, 1, reason]);
    }
  }

  protected left(): void {
    this.#closeUnused(1001, '');
  }

  /**
   * Views stay open, whatever the rules for outages say, because the page asked for the new
   * connection.
   */
  protected override reconnect(): void {
    if (!this.#link) return;
    this.#link.ended(1000, '');
    this.#link = undefined;
    this.#outage = this.#newOutage();
    this.#redial();
  }

  protected died(): void {
    this.#dials += 1;
    this.#isDialling = false;
    this.#outage = undefined;
    this.#link?.ended(1006, '');
    this.#link = undefined;
    this.state = LinkState.Idle;
    for (const seat of this.seats.values()) {
      Object.assign(seat, { views: new Map(), held: [], isKnown: false });
    }
  }

  protected subscribe(seat: MirrorSeat, number: number): void {
    this.post(seat, [HubKind.Unsubscribed, this.id, number, 'tabmux: no topics in mirror mode']);
  }

  protected unsubscribe(): void {
    // Mirror mode has no topics.
  }

  #dial(): void {
    if (this.#isDialling) return;
    this.#isDialling = true;
    const mine = (this.#dials += 1);
    this.show(LinkState.Connecting);
    const { url, protocols, rules } = this.config;
    if (rules.shareBy === undefined) return this.#open(mine, url, protocols);
    const seat = [...this.seats.values()].filter(({ isThere }) => isThere).at(-1);
    if (seat) this.post(seat, [HubKind.Ask, this.id, mine, 0]);
  }

  protected logout(): void {
    // Mirror mode has no session.
  }

  protected answered([url, ...protocols]: string[], failure: string): void {
    if (url !== undefined && this.#isDialling) return this.#open(this.#dials, url, protocols);
    const { shareBy } = this.config.rules;
    this.#endAll(1006, '', `tabmux: the page could not say where ${shareBy} is: ${failure}`);
  }

  #open(mine: number, url: string, protocols: string[]): void {
    const { server } = this.world;
    const dialled = (): void => {
      if (mine !== this.#dials) return;
      this.#isDialling = false;
      const refusal = this.world.isOnline() ? server.refuse({ socket: url })
        : 'the browser is offline';
      if (refusal !== undefined) {
        if (this.#retries()) return;
        return this.#endAll(1006, '', `tabmux: the WebSocket to ${url} could not be opened ` +
          `(${refusal})`);
      }
      this.#link = server.accept('mirror', url, protocols, {
        deliver: (data) => this.travel(() => this.#deliver(data)),
        end: (code, reason) => this.travel(() => {
          if (!OUTAGES.includes(code) || !this.#begins()) this.#endAll(code, reason, '');
        }),
      });
      this.#last = [];
      const kept = this.#outage?.kept ?? [];
      this.#outage = undefined;
      this.show(LinkState.Connected);
      // This tells a view that was open before that the outage is over.
      this.#eachView((seat, view) => this.#join(seat, view, 0));
      kept.forEach((data) => this.travel(() => this.#link?.heard(data)));
    };
    this.world.clock.soon(() => this.travel(dialled));
  }

  #join(seat: MirrorSeat, view: number, reused: 0 | 1): void {
    seat.views.set(view, true);
    this.post(seat, [HubKind.Joined, this.id, view, reused, answer(this.config.protocols)]);
    if (seat.views.size > 1) return;
    this.#last.forEach((data) => this.post(seat, [HubKind.Mirror, this.id, copy(data)]));
  }

  #deliver(data: Data): void {
    const { routeBy, replayLast = 0 } = this.config.rules;
    if (replayLast) this.#last = [...this.#last, copy(data)].slice(-replayLast);
    const seats = [...this.seats.values()].filter(({ views }) => views.size);
    const named = seats.filter(({ name }) => name === nameIn(data, routeBy));
    for (const seat of named.length ? named : seats) {
      if (seat.isThere) this.post(seat, [HubKind.Mirror, this.id, copy(data)]);
      else seat.held.push(copy(data));
    }
  }

  #newOutage(): Outage {
    const { minMs = 500, attempts = 10 } = this.config.rules.reconnect || { attempts: 0 };
    return { left: attempts, wait: minMs, kept: [], waits: false };
  }

  /** Begins an outage after the link broke. Returns true if views stay open. */
  #begins(): boolean {
    this.#link = undefined;
    this.#outage = this.#newOutage();
    return this.#retries();
  }

  /** Dials again after a wait. Returns false if there is no outage or no dial is left. */
  #retries(): boolean {
    const outage = this.#outage;
    if (!outage || outage.left === 0 || !this.#hasViews()) {
      this.#outage = undefined;
      return false;
    }
    const { maxMs = 30_000 } = this.config.rules.reconnect || {};
    const { wait } = outage;
    Object.assign(outage, { left: outage.left - 1, wait: Math.min(2 * wait, maxMs), waits: true });
    this.#dials += 1;
    this.#isDialling = true;
    const mine = this.#dials;
    this.show(LinkState.Connecting);
    this.world.clock.after(Math.min(wait, maxMs), () => {
      // Without a network the hub waits for one.
      if (mine === this.#dials && this.world.isOnline()) this.#redial();
    });
    return true;
  }

  #redial(): void {
    if (this.#outage) this.#outage.waits = false;
    this.#isDialling = false;
    this.#dial();
  }

  #hasViews(): boolean {
    return [...this.seats.values()].some(({ views }) => views.size > 0);
  }

  /** Ends all views with the connection. */
  #endAll(code: number, reason: string, error: string): void {
    this.#link = undefined;
    this.#outage = undefined;
    this.#isDialling = false;
    this.state = LinkState.Idle;
    this.#eachView((seat, view) => {
      seat.views.delete(view);
      const messages: HubMessage[] = [
        [HubKind.Ended, this.id, view, code, error ? 0 : 1, reason],
      ];
      if (error) messages.unshift([HubKind.Error, this.id, view, error]);
      messages.forEach((message) => this.post(seat, message));
    });
    this.show();
  }

  #closeUnused(code: number, reason: string): void {
    if (this.#hasViews()) return;
    const { linger = 0 } = this.config.rules;
    const link = this.#link;
    if (!link || !linger) return this.#close(code, reason);
    this.world.clock.after(linger, () => {
      if (link === this.#link && !this.#hasViews()) this.#close(1000, '');
    });
  }

  #close(code: number, reason: string): void {
    this.#dials += 1;
    this.#isDialling = false;
    this.#outage = undefined;
    this.#link?.ended(code || 1005, reason);
    this.#link = undefined;
    this.state = LinkState.Idle;
  }

  #eachView(act: (seat: MirrorSeat, view: number, isOpen: boolean) => unknown): void {
    for (const seat of this.seats.values()) {
      for (const [view, isOpen] of [...seat.views]) act(seat, view, isOpen);
    }
  }
}

/** Returns the text in this field of a message, if the message is JSON with such a field. */
function nameIn(data: Data, field?: string): unknown {
  try {
    return field === undefined || typeof data !== 'string' ? undefined
      : (Object(JSON.parse(data)) as Record<string, unknown>)[field];
  } catch {
    // The message is not JSON.
    return undefined;
  }
}

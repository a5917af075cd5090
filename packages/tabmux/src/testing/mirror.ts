// A hub in mirror mode: one connection, and a view of it for each socket of each tab.

import { HubKind, LinkState, PageKind } from '../protocol.js';
import type { Data, HubMessage, PageMessage } from '../protocol.js';
import { TestHub, answer, copy } from './hub.js';
import type { HubEnd, Seat } from './hub.js';
import type { InnerSocket } from './server.js';

/** Close codes by which a server says that it goes away, or that it is in trouble: an outage. */
const OUTAGES = [1001, 1011, 1012, 1013, 1014];

/** From when an open connection broke until the next one is open. */
interface Outage {
  /** How many dials are left, and how long the next one waits. Without chance, unlike a hub's. */
  left: number;
  wait: number;
  /** What was sent meanwhile. */
  readonly kept: Data[];
  /** The next dial is due later. */
  waits: boolean;
}

interface MirrorSeat extends Seat {
  /** Whether each view is open. */
  views: Map<number, boolean>;
  /** The name of the tab, for `routeBy`. */
  name: string;
  /** What came while the page was in the back/forward cache. */
  held: Data[];
  isKnown: boolean;
}

export class MirrorHub extends TestHub<MirrorSeat> {
  #link: InnerSocket | undefined;
  #dials = 0;
  #isDialling = false;
  /** The last messages, for late tabs. */
  #last: Data[] = [];
  /** Its views stay open until the next connection is. */
  #outage: Outage | undefined;

  cut(): void {
    // What is not dialled yet is not cut.
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

  /** Views stay open, whatever the rules say of outages: the page asked for it. */
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
    // There are none.
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
    // There is no session.
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
      // To a view that was open before this says that the outage is over.
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

  /** The link broke. True if views stay open. */
  #begins(): boolean {
    this.#link = undefined;
    this.#outage = this.#newOutage();
    return this.#retries();
  }

  /** Dials again after a wait, if there is an outage and were not dials enough. */
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
      // Without a network it waits for one.
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

  /** All views end with the connection. */
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

/** The text in that field of a message, if the message is a JSON text that has one. */
function nameIn(data: Data, field?: string): unknown {
  try {
    return field === undefined || typeof data !== 'string' ? undefined
      : (Object(JSON.parse(data)) as Record<string, unknown>)[field];
  } catch {
    // No JSON.
    return undefined;
  }
}

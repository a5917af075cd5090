// A hub in mirror mode: one connection, and a view of it for each socket of each tab.

import { HubKind, LinkState, PageKind } from '../protocol.js';
import type { Data, HubMessage, PageMessage } from '../protocol.js';
import { TestHub, answer, copy } from './hub.js';
import type { HubEnd, Seat } from './hub.js';
import type { InnerSocket } from './server.js';

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

  cut(): void {
    this.#dials += 1;
    this.#link?.ended(1006, '');
    this.#endAll(1006, '', 'tabmux: the connection was lost');
  }

  wake(): void {
    // Views end with their connection.
  }

  restart(): void {
    this.cut();
  }

  protected newSeat(end: HubEnd): MirrorSeat {
    return { end, isThere: true, said: 0, name: '', views: new Map(), held: [], isKnown: false };
  }

  protected welcome(seat: MirrorSeat): void {
    if (!seat.isKnown) {
      seat.isKnown = true;
      seat.said = 0;
      return this.post(seat, [HubKind.Renew, this.id, 0, 0, 'test']);
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
      this.travel(() => link?.heard(data));
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

  protected died(): void {
    this.#dials += 1;
    this.#isDialling = false;
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
        return this.#endAll(1006, '', `tabmux: the WebSocket to ${url} could not be opened ` +
          `(${refusal})`);
      }
      this.#link = server.accept('mirror', url, protocols, {
        deliver: (data) => this.travel(() => this.#deliver(data)),
        end: (code, reason) => this.travel(() => this.#endAll(code, reason, '')),
      });
      this.#last = [];
      this.show(LinkState.Connected);
      this.#eachView((seat, view, isOpen) => isOpen || this.#join(seat, view, 0));
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

  /** All views end with the connection. */
  #endAll(code: number, reason: string, error: string): void {
    this.#link = undefined;
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
    for (const { views } of this.seats.values()) if (views.size > 0) return;
    this.#dials += 1;
    this.#isDialling = false;
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

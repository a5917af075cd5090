//! A game: guess a number from 1 to 100. The state of a game is a field of its socket's handler.
//! Each tab therefore plays its own game, and an answer goes only to the tab that asked.

use serde_json::{Value, json};

use tabmux_server::{Ctx, Message, SocketHandler};

const HIGHEST: u32 = 100;

pub(super) struct Game {
    secret: u32,
    tries: u32,
    over: bool,
}

impl Game {
    pub(super) fn new() -> Self {
        Self::with(secret())
    }

    const fn with(secret: u32) -> Self {
        Self { secret, tries: 0, over: false }
    }

    fn answer(&mut self, message: Message<'_>) -> Value {
        let Message::Text(text) = message else {
            return error("send text");
        };
        if text == "new" {
            *self = Self::new();
            return json!({ "answer": "new" });
        }
        let number = text.strip_prefix("guess ").and_then(|number| number.parse::<u32>().ok());
        match number.filter(|number| (1..=HIGHEST).contains(number)) {
            None => error("send \"guess N\", N from 1 to 100, or \"new\""),
            Some(_) if self.over => error("the game is over; send \"new\" for another"),
            Some(guess) => self.guess(guess),
        }
    }

    fn guess(&mut self, guess: u32) -> Value {
        self.tries += 1;
        self.over = guess == self.secret;
        let answer = match self.secret.cmp(&guess) {
            std::cmp::Ordering::Less => "lower",
            std::cmp::Ordering::Equal => "right",
            std::cmp::Ordering::Greater => "higher",
        };
        json!({ "answer": answer, "guess": guess, "tries": self.tries })
    }
}

impl SocketHandler for Game {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        let answer = self.answer(message).to_string();
        if let Err(error) = ctx.send_text(&answer) {
            ctx.close(1013, &error.to_string());
        }
    }
}

fn error(message: &str) -> Value {
    json!({ "answer": "error", "message": message })
}

fn secret() -> u32 {
    // The number is always 1 if the system has no random bytes.
    1 + getrandom::u32().unwrap_or_default() % HIGHEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(game: &mut Game, text: &str) -> Value {
        game.answer(Message::Text(text))
    }

    #[test]
    fn the_answer_to_a_guess_says_where_the_number_lies() {
        let mut game = Game::with(42);
        let answer =
            |answer, guess, tries| json!({ "answer": answer, "guess": guess, "tries": tries });
        assert_eq!(play(&mut game, "guess 41"), answer("higher", 41, 1));
        assert_eq!(play(&mut game, "guess 43"), answer("lower", 43, 2));
        assert_eq!(play(&mut game, "guess 42"), answer("right", 42, 3));
        assert_eq!(play(&mut game, "guess 42")["answer"], "error");
    }

    #[test]
    fn the_text_new_begins_a_new_game() {
        let mut game = Game::with(42);
        play(&mut game, "guess 42");
        assert_eq!(play(&mut game, "new"), json!({ "answer": "new" }));
        assert_eq!(play(&mut game, "guess 1")["tries"], 1);
    }

    #[test]
    fn a_text_that_is_no_guess_is_an_error() {
        let mut game = Game::with(42);
        for text in ["", "guess", "guess 0", "guess 101", "guess -1", "guess x", "NEW"] {
            assert_eq!(play(&mut game, text)["answer"], "error", "{text}");
        }
        assert_eq!(game.answer(Message::Binary(b"new"))["answer"], "error");
        assert_eq!(game.tries, 0);
    }

    #[test]
    fn the_number_lies_in_range() {
        assert!((0..1_000).all(|_| (1..=HIGHEST).contains(&secret())));
    }
}

"""The client of the acknowledgement oracle for MariaDB, on a host that does not fail.

It commits one number after the other through the `mariadb` program, and prints a number only after
the server said that it is there. What was in flight when a connection broke may be there or not:
that number is never used again. Beside each number it changes other tables, indexes included.
"""

import itertools
import select
import subprocess
import sys
import time

ANSWER_LIMIT_S = 3.0
CLIENT = ["mariadb", "--user=client", "--connect-timeout=2", "--batch", "--unbuffered", "-N"]

CREATE = """\
CREATE TABLE IF NOT EXISTS promised (number BIGINT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS work (
  id BIGINT AUTO_INCREMENT PRIMARY KEY, word CHAR(40), padding BLOB, KEY (word));
SELECT 0;
"""
COMMIT = """\
BEGIN; INSERT INTO promised VALUES ({number});
INSERT INTO work (word, padding) VALUES (SHA1({number}), REPEAT(CHAR({number} % 256), 3000));
UPDATE work SET word = REVERSE(word) WHERE id = {number} % 500;
DELETE FROM work WHERE id < {number} - 2000 ORDER BY id LIMIT 2; COMMIT;
SELECT {number};
"""


def main(address: str) -> None:
    """Commits for ever, through every loss of the server."""
    numbers = itertools.count(1)
    while True:
        client = subprocess.Popen(
            [*CLIENT, f"--host={address}", "work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            commit_until_lost(client, numbers)
        except (BrokenPipeError, TimeoutError, EOFError) as error:
            print(f"{time.monotonic():.3f} {error!r}", file=sys.stderr)
        client.kill()
        client.wait()
        time.sleep(0.1)


def commit_until_lost(client: subprocess.Popen[bytes], numbers: "itertools.count[int]") -> None:
    """Ends with an exception, as every connection does."""
    ask(client, CREATE)
    for number in numbers:
        ask(client, COMMIT.format(number=number))
        print(number, flush=True)


def ask(client: subprocess.Popen[bytes], statements: str) -> None:
    """Sends statements and waits for the line that the last of them prints."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(statements.encode())
    client.stdin.flush()
    if not select.select([client.stdout], [], [], ANSWER_LIMIT_S)[0]:
        raise TimeoutError("the server does not answer")
    if not client.stdout.readline():
        raise EOFError("the connection is lost")


if __name__ == "__main__":
    main(sys.argv[1])

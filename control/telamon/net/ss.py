"""Asking ss (iproute2) about the TCP connections of this host."""

import asyncio

from telamon.errors import NetworkError


async def ask_ss(*arguments: str, attempt: str, limit_s: float) -> str:
    """What `ss` says of TCP connections, one a line, addresses and ports in numbers.

    Raises NetworkError that begins with `attempt`, if ss is missing, fails or takes over `limit_s`.
    """
    command = ("ss", "--no-header", "--tcp", "--numeric", *arguments)
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise NetworkError(
            f"could not {attempt}: the program ss is missing; install iproute2"
        ) from error
    cure = f"run `{' '.join(command)}` by hand to see why"
    try:
        async with asyncio.timeout(limit_s):
            output, complaint = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise NetworkError(
            f"could not {attempt}: ss did not end within {limit_s:g} s; {cure}"
        ) from error
    if process.returncode != 0:
        said = complaint.decode(errors="replace").strip()
        raise NetworkError(f"could not {attempt}: ss said {said!r}; {cure}")
    return output.decode()

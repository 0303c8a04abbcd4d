/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * jhash (Bob Jenkins' lookup3 as in Linux include/linux/jhash.h) for the four lengths that a client
 * can have. nftables and control/telamon/farm/hash.py compute the same; tests/vectors/farm_hash.json
 * holds all three to it.
 */
#ifndef TELAMON_FARM_HASH_H
#define TELAMON_FARM_HASH_H

#include "farm.h"

#define JHASH_INITVAL 0xdeadbeef

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are loaded little-endian");

static __always_inline __u32 rotate(__u32 value, int bits)
{
	return value << bits | value >> (32 - bits);
}

static __always_inline __u32 jhash_final(__u32 a, __u32 b, __u32 c)
{
	c = (c ^ b) - rotate(b, 14);
	a = (a ^ c) - rotate(c, 11);
	b = (b ^ a) - rotate(a, 25);
	c = (c ^ b) - rotate(b, 16);
	a = (a ^ c) - rotate(c, 4);
	b = (b ^ a) - rotate(a, 14);
	return (c ^ b) - rotate(b, 24);
}

/* An IPv4 address, and a port with two zero bytes behind it. */
static __always_inline __u32 hash_ipv4(__u32 address, __u32 port, _Bool with_port, __u32 seed)
{
	__u32 base = JHASH_INITVAL + (with_port ? 8 : 4) + seed;

	return jhash_final(base + address, base + (with_port ? port : 0), base);
}

static __always_inline __u32 hash_ipv6(
	const __u32 *address, __u32 port, _Bool with_port, __u32 seed)
{
	__u32 base = JHASH_INITVAL + (with_port ? 20 : 16) + seed;
	__u32 a = base + address[0], b = base + address[1], c = base + address[2];

	a = (a - c) ^ rotate(c, 4);
	c += b;
	b = (b - a) ^ rotate(a, 6);
	a += c;
	c = (c - b) ^ rotate(b, 8);
	b += a;
	a = (a - c) ^ rotate(c, 16);
	c += b;
	b = (b - a) ^ rotate(a, 19);
	a += c;
	c = (c - b) ^ rotate(b, 4);
	b += a;
	return jhash_final(a + address[3], b + (with_port ? port : 0), c);
}

#endif

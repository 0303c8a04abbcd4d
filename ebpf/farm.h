/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract between the farm filter in the kernel and the agent: table layout, hash, maps, keys, counters.
 *
 * One loaded object per network interface, pinned below /sys/fs/bpf/telamon-farm/INTERFACE/ (dots of the name written as
 * colons: bpffs has none): maps under the names below, program `prog`, link `link`. The filter lives without the agent;
 * removing the pinned link detaches it.
 *
 * Hash. A client falls into bucket = jhash(key, seed) >> 16, where jhash is the kernel's include/linux/jhash.h over bytes,
 * its words loaded little-endian, and key is the client's address in network order (4 or 16 bytes), followed with
 * FARM_AFFINITY_CONNECTION by the client's port in network order and two zero bytes. nftables computes the same value
 * with `jhash ip saddr [. th sport] mod 65536 seed SEED`. ARP and ND always hash the requester's address alone.
 * Vectors: tests/vectors/farm_hash.json.
 *
 * Rules, in this order. A filter never asks for another packet's fate.
 *  1. Not for an address of `addresses` (and of `settings`.address_bits): passed untouched (XDP_PASS). Tags (802.1Q, 802.1ad, up to two) are looked through.
 *  2. ARP request or neighbour solicitation for such an address: flood mode answers if the requester's bucket is ours,
 *     with the virtual MAC (Ethernet source: our own MAC); dispatch mode answers on the dispatcher with its own MAC. Both
 *     only under a valid lease. Anyone else drops. An ARP announcement of such an address (sender = target) drops.
 *  3. The service is `services`[address, protocol, port], else [address, protocol, 0]; without one `farm_address_rule.other`
 *     decides, by the requester's address in the address's own table.
 *  4. bucket = {owner, previous}; `self` is this node, 0 is nobody. This node owns the bucket if owner == self and the
 *     lease is valid: bpf_ktime_get_boot_ns() < `lease`[0], looked at once a tick, so at most 10 ms late.
 *     datagram: passes where owned, else drops.
 *     TCP SYN without ACK: passes where owned, else drops.
 *     other TCP: passes where owned if previous == 0 (the stack answers RST to strangers). Else, if owner == self or previous
 *     is not 0, a local non-listening socket of that tuple passes. Else, where owned, what bpf_tcp_check_syncookie accepts
 *     passes. Else drops.
 *     ICMP error: decided by the quoted packet, as if its sender had received it from the client.
 *     fragments: the first one decides for all, through `fragments`; one that overtakes it drops.
 *     What passes gets our own MAC as its destination, or the stack would not take a frame for the virtual one.
 *  5. Dispatch mode: the dispatcher sends a frame whose bucket another owns to `neighbours`[owner]. Whoever would drop other
 *     TCP by rule 4 while previous is neither 0 nor self sends it to `neighbours`[previous] instead; so does the dispatcher
 *     itself where it owns the bucket. Each sending on decrements TTL or hop limit, so that no loop lives; source MAC = our
 *     own. The dispatcher passes its own connections (rule 4's socket lookup) before it redirects.
 *
 * The lease is renewed by the agent with each heartbeat that it sends, for less than the time after which the others take
 * its buckets. So an agent that hangs or dies gives up new connections before anyone else takes them, and keeps the
 * established ones.
 *
 * `previous` is each node's own knowledge of who may still hold connections of the bucket: an owner sees the lowest-numbered
 * other holder; a holder that owns it no more sees the next higher holder, the last one itself; everyone else 0. Numbers
 * rise along the way, so it ends. The view change (control/telamon/farm/view.py) keeps it.
 */
#ifndef TELAMON_FARM_H
#define TELAMON_FARM_H

#ifndef __bpf__
#include <linux/types.h>
#endif

#define FARM_BUCKETS	65536
#define FARM_MEMBERS	250 /* numbered 1..250 */
#define FARM_NOBODY	0
#define FARM_TABLES	32 /* farm modules on one interface */
#define FARM_SERVICES	1024
#define FARM_ADDRESSES	256
#define FARM_FRAGMENTS	8192
#define FARM_VLAN_DEPTH 2

struct farm_bucket {
	__u8 owner;
	__u8 previous;
};

/*
 * Value of `tables`, an array of 2 * FARM_TABLES: module table T has the copies 2T and 2T + 1. `live`[T], an array of
 * __u32, says which of them (0 or 1) packets use. A switch writes the other copy whole, then `live`. Epoch and dispatcher
 * stand in the value so that they change in the same instant.
 */
struct farm_table {
	struct farm_bucket bucket[FARM_BUCKETS];
	__u64 epoch;
	__u32 seed;	 /* of the hash */
	__u8 dispatcher; /* dispatch mode: who answers ARP and redirects */
	__u8 reserved[3];
};

/* IPv4 as ::ffff:a.b.c.d. Network order. */
struct farm_address {
	__u8 bytes[16];
};

enum farm_mode {
	FARM_FLOOD = 0,	   /* every node sees every frame, sent to the virtual MAC */
	FARM_DISPATCH = 1, /* the dispatcher sees every frame and redirects it */
};

/* What happens to a packet that no service covers. */
enum farm_other {
	FARM_OTHER_DROP = 0,
	FARM_OTHER_OWNER = 1, /* the owner's stack answers or refuses */
	FARM_OTHER_PASS = 2,  /* every node's stack */
};

/* Value of `addresses`, a hash keyed by struct farm_address. Written before its bit is set, see farm_settings. */
struct farm_address_rule {
	__u16 table;
	__u8 mode;  /* enum farm_mode */
	__u8 other; /* enum farm_other */
	__u8 virtual_mac[6];
	__u8 reserved[2];
};

enum farm_affinity {
	FARM_AFFINITY_CLIENT = 0,     /* client address */
	FARM_AFFINITY_CONNECTION = 1, /* client address and port */
};

/* Key of the hash `services`. */
struct farm_service_key {
	struct farm_address address;
	__u16 port; /* network order; 0: every port */
	__u8 protocol;
	__u8 reserved;
};

struct farm_service {
	__u16 table;
	__u8 affinity; /* enum farm_affinity */
	__u8 mode;     /* enum farm_mode, as in the address's rule */
};

/* `lease` is an array of one __u64: CLOCK_BOOTTIME in nanoseconds until which this node may own buckets; 0: never. */

/*
 * The one element of the array `settings`. `address_bits` lets most frames pass without a lookup: for an address whose last
 * four bytes are a, b, c, d, bit i = a ^ b ^ c ^ d is address_bits[i / 64] >> i % 64 & 1.
 */
struct farm_settings {
	__u8 self; /* 0: no member, everything for a virtual address drops, as not the owner's */
	__u8 reserved;
	__u8 mac[6]; /* of this interface */
	__u64 address_bits[4];
};

/* Element of the array `neighbours`, indexed by member number. All zero: unknown. */
struct farm_neighbour {
	__u8 mac[6];
	__u8 reserved[2];
};

/* Key of the LRU hash `fragments`. */
struct farm_fragment_key {
	struct farm_address source;
	struct farm_address destination;
	__u32 id; /* as in the packet */
	__u8 protocol;
	__u8 reserved[3];
};

enum farm_fragment_verdict {
	FARM_FRAGMENT_DROP = 0,
	FARM_FRAGMENT_PASS = 1,
	FARM_FRAGMENT_REDIRECT = 2,
};

struct farm_fragment {
	__u8 verdict; /* enum farm_fragment_verdict */
	__u8 member;  /* redirect: to whom */
	__u8 reserved[2];
};

/* Index of the per-CPU array `counters` of __u64 packets. Each packet counts once. Append only. */
enum farm_counter {
	FARM_FOREIGN = 0,      /* passed: for no virtual address */
	FARM_PASS_NEW = 1,     /* SYN of an own bucket */
	FARM_PASS_SOCKET = 2,  /* a local connection */
	FARM_PASS_COOKIE = 3,  /* a valid SYN cookie, in grace */
	FARM_PASS_SETTLED = 4, /* no socket, own settled bucket: the stack answers RST */
	FARM_PASS_DATAGRAM = 5,
	FARM_PASS_ICMP_ERROR = 6,
	FARM_PASS_FRAGMENT = 7,
	FARM_PASS_OTHER = 8,	  /* no service, passed by rule */
	FARM_DROP_NOT_OWNER = 9,  /* SYN or datagram of another's bucket */
	FARM_DROP_NOBODY = 10,	  /* SYN or datagram of a bucket on its way */
	FARM_DROP_NO_SOCKET = 11, /* other TCP of another's bucket, no local connection */
	FARM_DROP_GRACE = 12,	  /* no socket, own bucket, a former owner may have it */
	FARM_DROP_ICMP_ERROR = 13,
	FARM_DROP_FRAGMENT = 14,
	FARM_DROP_OTHER = 15, /* no service, refused by rule */
	FARM_DROP_MALFORMED = 16,
	FARM_DROP_ARP = 17, /* not ours to answer */
	FARM_DROP_ND = 18,
	FARM_DROP_NEIGHBOUR = 19, /* redirect to a member whose MAC is unknown */
	FARM_DROP_TTL = 20,	  /* redirect with an exhausted TTL */
	FARM_DROP_NO_TABLE = 21,  /* a rule names a table that does not exist */
	FARM_ANSWER_ARP = 22,
	FARM_ANSWER_ND = 23,
	FARM_REDIRECT_OWNER = 24,
	FARM_REDIRECT_PREVIOUS = 25,
	FARM_DROP_LEASE = 26, /* SYN or datagram of an own bucket, but the agent is gone */
	FARM_COUNTERS = 27,
};

#ifndef __bpf__
_Static_assert(sizeof(struct farm_table) == 2 * FARM_BUCKETS + 16, "shared layout");
_Static_assert(sizeof(struct farm_address_rule) == 12, "shared layout");
_Static_assert(sizeof(struct farm_service_key) == 20, "shared layout");
_Static_assert(sizeof(struct farm_service) == 4, "shared layout");
_Static_assert(sizeof(struct farm_settings) == 40, "shared layout");
_Static_assert(sizeof(struct farm_neighbour) == 8, "shared layout");
_Static_assert(sizeof(struct farm_fragment_key) == 40, "shared layout");
_Static_assert(sizeof(struct farm_fragment) == 4, "shared layout");
#endif
#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a frame says about itself: addresses, ports, fragment, quoted packet. Reads only; every access
 * is by offset through `at`, so the verifier sees one bound check of one form. Test what `at` returns
 * before the next call of it: the compiler would merge the tests, and the verifier lose track.
 */
#ifndef TELAMON_FARM_PACKET_H
#define TELAMON_FARM_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "farm.h"
#include "farm_hash.h"

#define MAX_OFFSET	      511
#define MAX_EXTENSION_HEADERS 6

#define IPV4_MORE_FRAGMENTS  0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_MORE_FRAGMENTS  0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

#define ICMP_UNREACHABLE       3
#define ICMP_SOURCE_QUENCH     4
#define ICMP_REDIRECT	       5
#define ICMP_TIME_EXCEEDED     11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_LAST_ERROR      127
#define ICMPV6_SOLICITATION    135

/* The first bytes of every transport header that has ports; for ICMP, its first 8 bytes. */
struct ports_header {
	__be16 source;
	__be16 destination;
	__u32 rest;
};

struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__u32 rest;
};

struct vlan_tag {
	__be16 tag;
	__be16 inner_type;
};

struct extension_header {
	__u8 next;
	__u8 length; /* of hop-by-hop, routing and destination options: 8-byte units after the first */
	__be16 fragment;
	__be32 id;
};

/* As 32-bit words too: the hash and the copies go by them. */
union address {
	struct farm_address bytes;
	__u32 word[4];
};

struct packet {
	union address source;
	union address destination;
	__u32 network;	 /* offset of the IP header */
	__u32 transport; /* offset of the transport header */
	__u32 fragment_id;
	__be16 source_port;
	__be16 destination_port;
	__u8 version;
	__u8 protocol;
	_Bool is_fragment;
	_Bool is_first_fragment;
	_Bool is_malformed;
	_Bool opens;	 /* a TCP SYN without ACK */
	_Bool is_quoted; /* an ICMP error: addresses, ports and protocol are the quoted packet's */
};

static __always_inline void *at(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (offset > MAX_OFFSET)
		return 0;
	data += offset;
	if (data + size > end)
		return 0;
	return data;
}

static __always_inline void set_ipv4(union address *address, __be32 ipv4)
{
	address->word[0] = 0;
	address->word[1] = 0;
	address->word[2] = bpf_htonl(0xffff);
	address->word[3] = ipv4;
}

static __always_inline void set_ipv6(union address *address, const struct in6_addr *ipv6)
{
	__builtin_memcpy(address, ipv6, sizeof(*address));
}

/* Only the fixed header: enough to see that most frames are none of our business. */
static __always_inline _Bool parse_ipv4(struct xdp_md *ctx, struct packet *packet)
{
	struct iphdr *ip = at(ctx, packet->network, sizeof(*ip));
	__u16 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return 0;
	packet->version = 4;
	set_ipv4(&packet->source, ip->saddr);
	set_ipv4(&packet->destination, ip->daddr);
	packet->protocol = ip->protocol;
	packet->transport = packet->network + ip->ihl * 4;
	fragment = bpf_ntohs(ip->frag_off);
	packet->is_fragment = fragment & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET);
	packet->is_first_fragment = !(fragment & IPV4_FRAGMENT_OFFSET);
	packet->fragment_id = ip->id;
	return 1;
}

static __always_inline _Bool parse_ipv6(struct xdp_md *ctx, struct packet *packet)
{
	struct ipv6hdr *ip = at(ctx, packet->network, sizeof(*ip));

	if (!ip || ip->version != 6)
		return 0;
	packet->version = 6;
	set_ipv6(&packet->source, &ip->saddr);
	set_ipv6(&packet->destination, &ip->daddr);
	packet->protocol = ip->nexthdr;
	packet->transport = packet->network + sizeof(*ip);
	return 1;
}

/* False if the chain is cut short or longer than anything honest. */
static __always_inline _Bool skip_extension_headers(struct xdp_md *ctx, struct packet *packet)
{
	for (int count = 0; count < MAX_EXTENSION_HEADERS; count++) {
		struct extension_header *header;
		__u16 fragment;

		switch (packet->protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
		case IPPROTO_FRAGMENT:
			break;
		default:
			return 1;
		}
		header = at(ctx, packet->transport, sizeof(*header));
		if (!header)
			return 0;
		if (packet->protocol == IPPROTO_FRAGMENT) {
			fragment = bpf_ntohs(header->fragment);
			packet->is_fragment =
				fragment & (IPV6_MORE_FRAGMENTS | IPV6_FRAGMENT_OFFSET);
			packet->is_first_fragment = !(fragment & IPV6_FRAGMENT_OFFSET);
			packet->fragment_id = header->id;
			packet->transport += sizeof(*header);
		} else if (packet->protocol == IPPROTO_AH) {
			packet->transport += (header->length + 2) * 4;
		} else {
			packet->transport += (header->length + 1) * 8;
		}
		packet->protocol = header->next;
		if (packet->is_fragment && !packet->is_first_fragment)
			return 1;
	}
	return 0;
}

static __always_inline _Bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_DCCP || protocol == IPPROTO_UDPLITE;
}

static __always_inline _Bool is_error(const struct packet *packet, __u8 type)
{
	if (packet->version == 6)
		return type <= ICMPV6_LAST_ERROR;
	return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

/*
 * Puts the quoted packet in the place of the error that carries it, seen from our side: we sent it, so
 * its destination is the client. False if too little of it is quoted to tell, or if another address
 * sent it.
 */
static __always_inline _Bool parse_quoted(struct xdp_md *ctx, struct packet *packet)
{
	struct packet quoted = {.network = packet->transport + sizeof(struct icmp_header)};
	struct ports_header *ports;

	if (packet->version == 6) {
		if (!parse_ipv6(ctx, &quoted) || !skip_extension_headers(ctx, &quoted))
			return 0;
	} else if (!parse_ipv4(ctx, &quoted)) {
		return 0;
	}
	if (quoted.is_fragment && !quoted.is_first_fragment)
		return 0;
	ports = at(ctx, quoted.transport, sizeof(*ports));
	if (!ports)
		return 0;
	for (int word = 0; word < 4; word++)
		if (quoted.source.word[word] != packet->destination.word[word])
			return 0;
	packet->is_quoted = 1;
	packet->protocol = quoted.protocol;
	packet->source = quoted.destination;
	if (has_ports(quoted.protocol)) {
		packet->source_port = ports->destination;
		packet->destination_port = ports->source;
	}
	return 1;
}

/* Ports, SYN, and what an ICMP error quotes. False if the packet is cut short. */
static __always_inline _Bool parse_transport(struct xdp_md *ctx, struct packet *packet)
{
	if (packet->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = at(ctx, packet->transport, sizeof(*tcp));

		if (!tcp || tcp->doff < 5)
			return 0;
		packet->source_port = tcp->source;
		packet->destination_port = tcp->dest;
		packet->opens = tcp->syn && !tcp->ack;
	} else if (has_ports(packet->protocol)) {
		struct ports_header *ports = at(ctx, packet->transport, sizeof(*ports));

		if (!ports)
			return 0;
		packet->source_port = ports->source;
		packet->destination_port = ports->destination;
	} else if (packet->protocol == (packet->version == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		struct icmp_header *icmp = at(ctx, packet->transport, sizeof(*icmp));

		if (!icmp)
			return 0;
		if (is_error(packet, icmp->type))
			return parse_quoted(ctx, packet);
	}
	return 1;
}

static __always_inline __u32 bucket_of(
	const struct packet *packet, _Bool with_port, const struct farm_table *table)
{
	__u32 hash;

	if (packet->version == 4)
		hash = hash_ipv4(
			packet->source.word[3], packet->source_port, with_port, table->seed);
	else
		hash = hash_ipv6(packet->source.word, packet->source_port, with_port, table->seed);
	return hash >> 16;
}

#endif

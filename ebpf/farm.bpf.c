// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The farm filter: every node sees a client's packet, exactly one accepts it. Rules, maps and
 * counters are in farm.h; this file decides (rules 3 to 5), the headers read and answer.
 */
#include "farm_maps.h"
#include "farm_packet.h"
#include "farm_answer.h"

char LICENSE[] SEC("license") = "GPL";

/* What one packet is decided by. */
struct place {
	struct farm_bucket bucket;
	__u8 self;
	_Bool dispatches; /* this node redirects what others own */
	_Bool redirects;  /* dispatch mode: a former owner is reached through us */
};

enum action {
	ACTION_DROP,
	ACTION_PASS,
	ACTION_IGNORE, /* passed untouched */
	ACTION_REDIRECT,
};

struct decision {
	__u32 counter;
	__u8 action; /* enum action */
	__u8 member; /* ACTION_REDIRECT */
};

#define DECISION(what, why, whom)                                                                  \
	((struct decision){.action = ACTION_##what, .counter = FARM_##why, .member = (whom)})

static __always_inline void find_place(struct place *place, const struct packet *packet,
	const struct farm_table *table, __u8 mode, _Bool with_port)
{
	place->bucket = table->bucket[bucket_of(packet, with_port, table) & 0xffff];
	place->redirects = mode == FARM_DISPATCH;
	place->dispatches = place->redirects && table->dispatcher == place->self;
}

/* A packet that belongs to no connection: the owner takes it, nobody else. */
static __always_inline struct decision decide_new(const struct place *place)
{
	if (place->bucket.owner == place->self)
		return lease_holds() ? DECISION(PASS, PASS_NEW, 0) : DECISION(DROP, DROP_LEASE, 0);
	if (place->bucket.owner == FARM_NOBODY)
		return DECISION(DROP, DROP_NOBODY, 0);
	if (place->dispatches)
		return DECISION(REDIRECT, REDIRECT_OWNER, place->bucket.owner);
	return DECISION(DROP, DROP_NOT_OWNER, 0);
}

static __always_inline struct bpf_sock *find_socket(struct xdp_md *ctx, const struct packet *packet)
{
	struct bpf_sock_tuple tuple;

	if (packet->version == 4) {
		tuple.ipv4.saddr = packet->source.word[3];
		tuple.ipv4.daddr = packet->destination.word[3];
		tuple.ipv4.sport = packet->source_port;
		tuple.ipv4.dport = packet->destination_port;
		return bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, &packet->source, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, &packet->destination, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = packet->source_port;
	tuple.ipv6.dport = packet->destination_port;
	return bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/* The ACK that answers a SYN cookie of ours: the listener knows it, no socket does yet. */
static __always_inline _Bool cookie_is_valid(
	struct xdp_md *ctx, const struct packet *packet, struct bpf_sock *listener)
{
	struct tcphdr *tcp = at(ctx, packet->transport, sizeof(*tcp));

	if (!tcp || packet->is_quoted)
		return 0;
	if (packet->version == 4) {
		struct iphdr *ip = at(ctx, packet->network, sizeof(*ip));

		return ip && !bpf_tcp_check_syncookie(listener, ip, sizeof(*ip), tcp, sizeof(*tcp));
	}
	struct ipv6hdr *ip = at(ctx, packet->network, sizeof(*ip));

	return ip && !bpf_tcp_check_syncookie(listener, ip, sizeof(*ip), tcp, sizeof(*tcp));
}

/* TCP other than the first SYN: a connection stays on the node where it lives. */
static __always_inline struct decision decide_established(
	struct xdp_md *ctx, const struct packet *packet, const struct place *place)
{
	const struct farm_bucket bucket = place->bucket;
	_Bool is_owner = bucket.owner == place->self;
	_Bool owns = is_owner && lease_holds();

	if (owns && bucket.previous == FARM_NOBODY)
		return DECISION(PASS, PASS_SETTLED, 0);
	if (is_owner || bucket.previous != FARM_NOBODY) {
		struct bpf_sock *socket = find_socket(ctx, packet);

		if (socket) {
			_Bool listens = socket->state == BPF_TCP_LISTEN;
			_Bool cookie = listens && owns && cookie_is_valid(ctx, packet, socket);

			bpf_sk_release(socket);
			if (!listens)
				return DECISION(PASS, PASS_SOCKET, 0);
			if (cookie)
				return DECISION(PASS, PASS_COOKIE, 0);
		}
	}
	if (place->dispatches && !is_owner && bucket.owner != FARM_NOBODY)
		return DECISION(REDIRECT, REDIRECT_OWNER, bucket.owner);
	if (place->redirects && bucket.previous != FARM_NOBODY && bucket.previous != place->self)
		return DECISION(REDIRECT, REDIRECT_PREVIOUS, bucket.previous);
	return is_owner ? DECISION(DROP, DROP_GRACE, 0) : DECISION(DROP, DROP_NO_SOCKET, 0);
}

/* The same outcome under another name. */
static __always_inline struct decision renamed(
	struct decision decision, __u32 passed, __u32 dropped)
{
	if (decision.action == ACTION_PASS)
		decision.counter = passed;
	else if (decision.action == ACTION_DROP && dropped != FARM_COUNTERS)
		decision.counter = dropped;
	return decision;
}

/* A packet that no service covers, or that tells too little of itself. */
static __always_inline struct decision decide_uncovered(
	const struct packet *packet, const struct farm_settings *own)
{
	const struct farm_address_rule *rule =
		bpf_map_lookup_elem(&addresses, &packet->destination);
	struct place place = {.self = own->self};
	const struct farm_table *table;

	if (!rule)
		return DECISION(IGNORE, FOREIGN, 0);
	if (!own->self)
		return DECISION(DROP, DROP_NOT_OWNER, 0);
	if (packet->is_malformed)
		return DECISION(DROP, DROP_MALFORMED, 0);
	if (rule->other == FARM_OTHER_PASS)
		return DECISION(PASS, PASS_OTHER, 0);
	if (rule->other == FARM_OTHER_DROP)
		return DECISION(DROP, DROP_OTHER, 0);
	table = live_table(rule->table);
	if (!table)
		return DECISION(DROP, DROP_NO_TABLE, 0);
	find_place(&place, packet, table, rule->mode, 0);
	return renamed(decide_new(&place), FARM_PASS_OTHER, FARM_DROP_OTHER);
}

static __always_inline const struct farm_service *find_service(const struct packet *packet)
{
	struct farm_service_key key = {
		.address = packet->destination.bytes,
		.port = packet->destination_port,
		.protocol = packet->protocol,
	};
	const struct farm_service *service = bpf_map_lookup_elem(&services, &key);

	if (service || !key.port)
		return service;
	key.port = 0;
	return bpf_map_lookup_elem(&services, &key);
}

static __always_inline struct decision decide(
	struct xdp_md *ctx, const struct packet *packet, const struct farm_settings *own)
{
	const struct farm_service *service = packet->is_malformed ? 0 : find_service(packet);
	struct place place = {.self = own->self};
	const struct farm_table *table;
	struct decision decision;

	if (!service)
		return decide_uncovered(packet, own);
	if (!own->self)
		return DECISION(DROP, DROP_NOT_OWNER, 0);
	table = live_table(service->table);
	if (!table)
		return DECISION(DROP, DROP_NO_TABLE, 0);
	find_place(&place, packet, table, service->mode,
		service->affinity == FARM_AFFINITY_CONNECTION);
	if (packet->protocol == IPPROTO_TCP && !packet->opens)
		decision = decide_established(ctx, packet, &place);
	else
		decision = decide_new(&place);
	if (packet->is_quoted)
		return renamed(decision, FARM_PASS_ICMP_ERROR, FARM_DROP_ICMP_ERROR);
	if (packet->protocol != IPPROTO_TCP)
		return renamed(decision, FARM_PASS_DATAGRAM, FARM_COUNTERS);
	return decision;
}

/* The stack takes only frames for its own MAC, and this one may be for the virtual one. */
static __always_inline int pass(struct xdp_md *ctx, const __u8 *own_mac, __u32 counter)
{
	struct ethhdr *ethernet = at(ctx, 0, sizeof(*ethernet));

	if (ethernet)
		__builtin_memcpy(ethernet->h_dest, own_mac, ETH_ALEN);
	return counted(counter, XDP_PASS);
}

static __always_inline _Bool take_hop(struct xdp_md *ctx, const struct packet *packet)
{
	if (packet->version == 4) {
		struct iphdr *ip = at(ctx, packet->network, sizeof(*ip));
		__u32 sum;

		if (!ip || ip->ttl <= 1)
			return 0;
		ip->ttl--;
		sum = ip->check + bpf_htons(0x0100);
		ip->check = sum + (sum >= 0xffff);
		return 1;
	}
	struct ipv6hdr *ip = at(ctx, packet->network, sizeof(*ip));

	if (!ip || ip->hop_limit <= 1)
		return 0;
	ip->hop_limit--;
	return 1;
}

static __always_inline int redirect(struct xdp_md *ctx, const struct packet *packet,
	const __u8 *own_mac, __u32 member, __u32 counter)
{
	const struct farm_neighbour *neighbour = bpf_map_lookup_elem(&neighbours, &member);
	struct ethhdr *ethernet;

	if (!neighbour || !(neighbour->mac[0] | neighbour->mac[1] | neighbour->mac[2] |
				  neighbour->mac[3] | neighbour->mac[4] | neighbour->mac[5]))
		return counted(FARM_DROP_NEIGHBOUR, XDP_DROP);
	if (!take_hop(ctx, packet))
		return counted(FARM_DROP_TTL, XDP_DROP);
	ethernet = at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return counted(FARM_DROP_MALFORMED, XDP_DROP);
	__builtin_memcpy(ethernet->h_dest, neighbour->mac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, own_mac, ETH_ALEN);
	return counted(counter, XDP_TX);
}

static __always_inline struct farm_fragment_key fragment_key(const struct packet *packet)
{
	return (struct farm_fragment_key){
		.source = packet->source.bytes,
		.destination = packet->destination.bytes,
		.id = packet->fragment_id,
		.protocol = packet->protocol,
	};
}

/* A fragment that came before its first one is lost; the sender repeats what matters. */
static __always_inline struct decision decide_fragment(
	const struct packet *packet, const struct farm_settings *own)
{
	struct farm_fragment_key key = fragment_key(packet);
	const struct farm_fragment *first;

	if (!bpf_map_lookup_elem(&addresses, &packet->destination))
		return DECISION(IGNORE, FOREIGN, 0);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!own->self || !first || first->verdict == FARM_FRAGMENT_DROP)
		return DECISION(DROP, DROP_FRAGMENT, 0);
	if (first->verdict == FARM_FRAGMENT_REDIRECT)
		return DECISION(REDIRECT, REDIRECT_OWNER, first->member);
	return DECISION(PASS, PASS_FRAGMENT, 0);
}

static __always_inline void remember_fragment(
	const struct farm_fragment_key *key, struct decision decision)
{
	struct farm_fragment first = {.member = decision.member};

	if (decision.action == ACTION_PASS)
		first.verdict = FARM_FRAGMENT_PASS;
	else if (decision.action == ACTION_REDIRECT)
		first.verdict = FARM_FRAGMENT_REDIRECT;
	bpf_map_update_elem(&fragments, key, &first, BPF_ANY);
}

static __always_inline struct decision decide_any(
	struct xdp_md *ctx, struct packet *packet, const struct farm_settings *own)
{
	struct farm_fragment_key key;
	struct decision decision;

	if (packet->version == 6 && !skip_extension_headers(ctx, packet))
		packet->is_malformed = 1;
	if (packet->is_fragment && !packet->is_first_fragment)
		return decide_fragment(packet, own);
	if (packet->is_fragment)
		key = fragment_key(packet);
	if (!packet->is_malformed && !parse_transport(ctx, packet))
		packet->is_malformed = 1;
	decision = decide(ctx, packet, own);
	if (packet->is_fragment && decision.action != ACTION_IGNORE)
		remember_fragment(&key, decision);
	return decision;
}

static __always_inline int filter(
	struct xdp_md *ctx, struct packet *packet, const struct farm_settings *own)
{
	struct decision decision = decide_any(ctx, packet, own);

	switch (decision.action) {
	case ACTION_IGNORE:
		return counted(decision.counter, XDP_PASS);
	case ACTION_PASS:
		return pass(ctx, own->mac, decision.counter);
	case ACTION_REDIRECT:
		return redirect(ctx, packet, own->mac, decision.member, decision.counter);
	default:
		return counted(decision.counter, XDP_DROP);
	}
}

/* False for most frames that are none of our business, without a lookup. */
static __always_inline _Bool may_be_virtual(
	const struct farm_settings *own, const struct packet *packet)
{
	__u32 bytes = packet->destination.word[3];
	__u32 index;

	bytes ^= bytes >> 16;
	index = (bytes ^ bytes >> 8) & 0xff;
	return own->address_bits[index / 64] >> index % 64 & 1;
}

static __always_inline _Bool is_vlan(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

SEC("xdp")
int farm(struct xdp_md *ctx)
{
	struct packet packet = {.network = sizeof(struct ethhdr)};
	const struct farm_settings *own = bpf_map_lookup_elem(&settings, &zero);
	struct ethhdr *ethernet = at(ctx, 0, sizeof(*ethernet));
	_Bool is_ip = 0;
	__be16 type;

	if (!ethernet || !own)
		return counted(FARM_FOREIGN, XDP_PASS);
	type = ethernet->h_proto;
	for (int depth = 0; depth < FARM_VLAN_DEPTH && is_vlan(type); depth++) {
		struct vlan_tag *tag = at(ctx, packet.network, sizeof(*tag));

		if (!tag)
			return counted(FARM_FOREIGN, XDP_PASS);
		type = tag->inner_type;
		packet.network += sizeof(*tag);
	}
	if (type == bpf_htons(ETH_P_ARP))
		return answer_arp(ctx, packet.network);
	if (type == bpf_htons(ETH_P_IP))
		is_ip = parse_ipv4(ctx, &packet);
	else if (type == bpf_htons(ETH_P_IPV6))
		is_ip = parse_ipv6(ctx, &packet);
	if (!is_ip)
		return counted(FARM_FOREIGN, XDP_PASS);
	if (packet.version == 6 && packet.protocol == IPPROTO_ICMPV6) {
		int verdict = answer_solicitation(ctx, &packet);

		if (verdict >= 0)
			return verdict;
	}
	if (!may_be_virtual(own, &packet))
		return counted(FARM_FOREIGN, XDP_PASS);
	return filter(ctx, &packet, own);
}

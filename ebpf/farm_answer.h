/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ARP requests and neighbour solicitations for a virtual address, answered in place and sent back
 * (XDP_TX). The Ethernet source is always our own MAC, so that no switch ever learns where the
 * virtual one lives and all of them keep flooding it.
 */
#ifndef TELAMON_FARM_ANSWER_H
#define TELAMON_FARM_ANSWER_H

#include "farm_maps.h"
#include "farm_packet.h"

#define ARP_ETHERNET 1
#define ARP_REQUEST  1
#define ARP_REPLY    2

#define ICMPV6_ADVERTISEMENT 136
#define ND_SOLICITED	     0x40
#define ND_OVERRIDE	     0x20
#define ND_TARGET_LINK_LAYER 2
#define ND_HOP_LIMIT	     255

struct arp_packet {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

struct nd_packet {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__u8 flags;
	__u8 reserved[3];
	struct in6_addr target;
};

struct nd_link_layer {
	__u8 type;
	__u8 length; /* 8-byte units */
	__u8 mac[ETH_ALEN];
};

struct advertisement {
	struct nd_packet nd;
	struct nd_link_layer option;
};

/* Where the question is ours to answer, the MAC to answer with; else nothing. */
static __always_inline const __u8 *answer_mac(
	const struct packet *question, const struct farm_address_rule *rule)
{
	const struct farm_settings *own = bpf_map_lookup_elem(&settings, &zero);
	const struct farm_table *table = live_table(rule->table);

	if (!own || !own->self || !table || !lease_holds())
		return 0;
	if (rule->mode == FARM_DISPATCH)
		return table->dispatcher == own->self ? own->mac : 0;
	if (table->bucket[bucket_of(question, 0, table) & 0xffff].owner != own->self)
		return 0;
	return rule->virtual_mac;
}

static __always_inline void send_back(struct ethhdr *ethernet, const __u8 *own_mac)
{
	__builtin_memcpy(ethernet->h_dest, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, own_mac, ETH_ALEN);
}

static __always_inline int answer_arp(struct xdp_md *ctx, __u32 offset)
{
	struct farm_settings *own = bpf_map_lookup_elem(&settings, &zero);
	struct arp_packet *arp = at(ctx, offset, sizeof(*arp));
	struct packet question = {.version = 4};
	const struct farm_address_rule *rule;
	struct ethhdr *ethernet;
	const __u8 *mac;
	__be32 address;

	if (!own || !arp || arp->operation != bpf_htons(ARP_REQUEST) ||
		arp->hardware != bpf_htons(ARP_ETHERNET) || arp->protocol != bpf_htons(ETH_P_IP) ||
		arp->hardware_length != ETH_ALEN || arp->protocol_length != sizeof(__be32))
		return counted(FARM_FOREIGN, XDP_PASS);
	set_ipv4(&question.source, arp->sender);
	set_ipv4(&question.destination, arp->target);
	rule = bpf_map_lookup_elem(&addresses, &question.destination);
	if (!rule)
		return counted(FARM_FOREIGN, XDP_PASS);
	/* Sender and target equal: another node announces the address, nobody asks for it. */
	mac = arp->sender == arp->target ? 0 : answer_mac(&question, rule);
	if (!mac)
		return counted(FARM_DROP_ARP, XDP_DROP);

	ethernet = at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return counted(FARM_DROP_ARP, XDP_DROP);
	address = arp->target;
	arp->operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	arp->target = arp->sender;
	__builtin_memcpy(arp->sender_mac, mac, ETH_ALEN);
	arp->sender = address;
	send_back(ethernet, own->mac);
	return counted(FARM_ANSWER_ARP, XDP_TX);
}

static __always_inline __sum16 advertisement_checksum(
	struct ipv6hdr *ip, struct advertisement *answer)
{
	__s64 sum = bpf_htonl(sizeof(*answer) + IPPROTO_ICMPV6);

	sum = bpf_csum_diff(0, 0, (__be32 *)&ip->saddr, 2 * sizeof(ip->saddr), sum);
	sum = bpf_csum_diff(0, 0, (__be32 *)answer, sizeof(*answer), sum);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* RFC 4861, 7.2.4. The answer always carries its one option, so the frame may grow or shrink. */
static __always_inline int advertise(
	struct xdp_md *ctx, const struct packet *question, const __u8 *mac, const __u8 *own_mac)
{
	int length = question->transport + sizeof(struct advertisement);
	_Bool is_probe = !(question->source.word[0] | question->source.word[1] |
			   question->source.word[2] | question->source.word[3]);
	struct advertisement *answer;
	struct ethhdr *ethernet;
	struct ipv6hdr *ip;

	if (bpf_xdp_adjust_tail(ctx, length - (int)bpf_xdp_get_buff_len(ctx)))
		return counted(FARM_DROP_ND, XDP_DROP);
	ethernet = at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return counted(FARM_DROP_ND, XDP_DROP);
	ip = at(ctx, question->network, sizeof(*ip));
	if (!ip)
		return counted(FARM_DROP_ND, XDP_DROP);
	answer = at(ctx, question->transport, sizeof(*answer));
	if (!answer)
		return counted(FARM_DROP_ND, XDP_DROP);

	ip->daddr = ip->saddr;
	ip->saddr = answer->nd.target;
	ip->hop_limit = ND_HOP_LIMIT;
	ip->payload_len = bpf_htons(sizeof(*answer));
	send_back(ethernet, own_mac);
	/* Who probes has no address yet: all nodes hear the answer (ff02::1). */
	if (is_probe) {
		static const __u8 all_nodes_mac[ETH_ALEN] = {0x33, 0x33, 0, 0, 0, 1};

		ip->daddr.in6_u.u6_addr32[0] = bpf_htonl(0xff020000);
		ip->daddr.in6_u.u6_addr32[1] = 0;
		ip->daddr.in6_u.u6_addr32[2] = 0;
		ip->daddr.in6_u.u6_addr32[3] = bpf_htonl(1);
		__builtin_memcpy(ethernet->h_dest, all_nodes_mac, ETH_ALEN);
	}
	answer->nd.type = ICMPV6_ADVERTISEMENT;
	answer->nd.checksum = 0;
	answer->nd.flags = ND_OVERRIDE | (is_probe ? 0 : ND_SOLICITED);
	__builtin_memset(answer->nd.reserved, 0, sizeof(answer->nd.reserved));
	answer->option.type = ND_TARGET_LINK_LAYER;
	answer->option.length = sizeof(answer->option) / 8;
	__builtin_memcpy(answer->option.mac, mac, ETH_ALEN);
	answer->nd.checksum = advertisement_checksum(ip, answer);
	return counted(FARM_ANSWER_ND, XDP_TX);
}

/* Returns -1 if the frame is not a solicitation for a virtual address. */
static __always_inline int answer_solicitation(struct xdp_md *ctx, const struct packet *question)
{
	struct farm_settings *own = bpf_map_lookup_elem(&settings, &zero);
	struct nd_packet *nd = at(ctx, question->transport, sizeof(*nd));
	const struct farm_address_rule *rule;
	union address target;
	struct ipv6hdr *ip;
	const __u8 *mac;

	if (!own || !nd || nd->type != ICMPV6_SOLICITATION || nd->code)
		return -1;
	set_ipv6(&target, &nd->target);
	rule = bpf_map_lookup_elem(&addresses, &target);
	if (!rule)
		return -1;
	mac = answer_mac(question, rule);
	ip = at(ctx, question->network, sizeof(*ip));
	if (!mac || !ip || ip->hop_limit != ND_HOP_LIMIT)
		return counted(FARM_DROP_ND, XDP_DROP);
	return advertise(ctx, question, mac, own->mac);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The maps of the farm filter (farm.h says what they hold), and the few words said about them all. */
#ifndef TELAMON_FARM_MAPS_H
#define TELAMON_FARM_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "farm.h"

#define FARM_NEIGHBOURS 256 /* every value of a member number */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * FARM_TABLES);
	__type(key, __u32);
	__type(value, struct farm_table);
} tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FARM_TABLES);
	__type(key, __u32);
	__type(value, __u32);
} live SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FARM_ADDRESSES);
	__type(key, struct farm_address);
	__type(value, struct farm_address_rule);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FARM_SERVICES);
	__type(key, struct farm_service_key);
	__type(value, struct farm_service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct farm_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lease SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FARM_NEIGHBOURS);
	__type(key, __u32);
	__type(value, struct farm_neighbour);
} neighbours SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FARM_FRAGMENTS);
	__type(key, struct farm_fragment_key);
	__type(value, struct farm_fragment);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FARM_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* What was last found about the lease on this CPU. */
struct lease_check {
	__u64 jiffies;
	__u64 until_ns;
	__u64 holds;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lease_check);
} lease_checks SEC(".maps");

static const __u32 zero;

static __always_inline int counted(__u32 counter, int verdict)
{
	__u64 *count = bpf_map_lookup_elem(&counters, &counter);

	if (count)
		(*count)++;
	return verdict;
}

/* Reading the clock costs as much as all the rest of a SYN: once a tick is often enough. */
static __always_inline _Bool lease_holds(void)
{
	struct lease_check *last = bpf_map_lookup_elem(&lease_checks, &zero);
	__u64 *until_ns = bpf_map_lookup_elem(&lease, &zero);
	__u64 jiffies = bpf_jiffies64();

	if (!until_ns || !last)
		return 0;
	if (last->jiffies != jiffies || last->until_ns != *until_ns) {
		last->jiffies = jiffies;
		last->until_ns = *until_ns;
		last->holds = bpf_ktime_get_boot_ns() < last->until_ns;
	}
	return last->holds;
}

static __always_inline const struct farm_table *live_table(__u32 number)
{
	__u32 *copy, index;

	if (number >= FARM_TABLES)
		return 0;
	copy = bpf_map_lookup_elem(&live, &number);
	if (!copy)
		return 0;
	index = 2 * number + (*copy & 1);
	return bpf_map_lookup_elem(&tables, &index);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every capture back end shares: the maps, the filter (watched inode, not the replicator's own
 * call) and the one way by which an event reaches the ring or is counted as lost. The contract is in
 * capture.h; the back ends only say which kernel hook changed which range.
 */
#ifndef TELAMON_CAPTURE_CORE_H
#define TELAMON_CAPTURE_CORE_H

#include "kernel.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "capture.h"

#define ITER_SOURCE	 1 /* iov_iter.data_source: the iterator is read from, so this is a write */
#define DIRECT_IN_FLIGHT 16384

/* Sizes of `events` and `watched` are set by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct capture_inode);
	__type(value, struct capture_watch);
} watched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} drop_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct capture_settings);
} settings SEC(".maps");

/* The process that ran prog_claim. Its number alone could be another's after it died. */
struct {
	__u32 tgid;
	__u64 start_boottime_ns;
} claimed;

static const __u32 zero;

SEC("syscall")
int claim(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();

	claimed.start_boottime_ns = task->group_leader->start_boottime;
	claimed.tgid = bpf_get_current_pid_tgid() >> 32;
	return 0;
}

static __always_inline _Bool called_by_replicator(void)
{
	struct task_struct *task;

	if (!claimed.tgid || bpf_get_current_pid_tgid() >> 32 != claimed.tgid)
		return 0;
	task = bpf_get_current_task_btf();
	return task->group_leader->start_boottime == claimed.start_boottime_ns;
}

/*
 * The compare-and-swap is always carried out once: it orders the inode's counters before the global
 * one on every architecture. Should eight writers win in a row, the end is unknown: all of it.
 */
static __always_inline void count_loss(struct capture_watch *watch, __u64 end)
{
	__u64 *count = bpf_map_lookup_elem(&drop_count, &zero);
	__u64 known = watch->lost_end;
	int attempts;

	__sync_fetch_and_add(&watch->lost_events, 1);
	for (attempts = 0; attempts < 8; attempts++) {
		__u64 before = __sync_val_compare_and_swap(
			&watch->lost_end, known, known > end ? known : end);

		if (before == known)
			break;
		known = before;
	}
	if (attempts == 8)
		watch->lost_end = ~0ULL;
	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline __u64 wake_flags(void)
{
	struct capture_settings *current = bpf_map_lookup_elem(&settings, &zero);

	if (!current || !current->wake_bytes)
		return 0;
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < current->wake_bytes)
		return BPF_RB_NO_WAKEUP;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void capture_key(
	const struct capture_inode *key, __u64 offset, __u64 length, __u32 kind)
{
	struct capture_watch *watch = bpf_map_lookup_elem(&watched, key);
	struct capture_event *event;

	if (!watch || called_by_replicator())
		return;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count_loss(watch, offset + length);
		return;
	}
	event->inode = key->inode;
	event->offset = offset;
	event->length = length;
	event->generation = key->generation;
	event->device = key->device;
	event->tree = watch->tree;
	event->kind = kind;
	bpf_ringbuf_submit(event, wake_flags());
}

static __always_inline struct capture_inode key_of(struct inode *inode)
{
	return (struct capture_inode){
		.inode = inode->i_ino,
		.device = inode->i_sb->s_dev,
		.generation = inode->i_generation,
	};
}

/* No hook passes a null inode, but newer verifiers (6.12.95 met) want a test of every argument. */
static __always_inline void capture(struct inode *inode, __u64 offset, __u64 length, __u32 kind)
{
	struct capture_inode key;

	if (!inode)
		return;
	key = key_of(inode);
	capture_key(&key, offset, length, kind);
}

#endif

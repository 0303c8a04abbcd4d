/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stores through shared mappings, on any file system: the kernel tells when a clean page becomes
 * dirty, and nothing of the stores that follow until it is written out and protected again. A page
 * that a write(2) made dirty is not clean when the first store comes: all that is told of that one is
 * that the page was mapped before.
 */
#ifndef TELAMON_CAPTURE_MAPPED_H
#define TELAMON_CAPTURE_MAPPED_H

#include "capture_core.h"

/* Set by the loader: pages have 4 KiB on x86, up to 64 on arm64. */
const volatile __u32 page_shift = 12;

static __always_inline __u64 folio_bytes(struct folio *folio)
{
	unsigned long flags;

	if (bpf_core_field_exists(((struct folio___structure *)0)->flags.f))
		flags = ((struct folio___structure *)folio)->flags.f;
	else
		flags = ((struct folio___word *)folio)->flags;
	if (!(flags & (1UL << bpf_core_enum_value(enum pageflags, PG_head))))
		return 1UL << page_shift;
	return 1UL << (page_shift + (folio->_flags_1 & 0xff));
}

SEC("tp_btf/writeback_dirty_folio")
int BPF_PROG(mapped_store, struct folio *folio, struct address_space *mapping)
{
	if (folio && mapping && mapping->i_mmap_writable.counter > 0)
		capture(mapping->host, (__u64)folio->index << page_shift, folio_bytes(folio),
			CAPTURE_MAPPED);
	return 0;
}

static __always_inline void capture_fault(
	struct address_space *mapping, unsigned long first, unsigned long last)
{
	if (mapping && mapping->i_mmap_writable.counter > 0)
		capture(mapping->host, (__u64)first << page_shift,
			(__u64)(last - first + 1) << page_shift, CAPTURE_FAULTED);
}

SEC("tp_btf/mm_filemap_fault")
int BPF_PROG(faulted_page, struct address_space *mapping, unsigned long index)
{
	capture_fault(mapping, index, index);
	return 0;
}

/* Neighbours that are mapped along with a page that was read. */
SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(faulted_around, struct address_space *mapping, unsigned long first, unsigned long last)
{
	capture_fault(mapping, first, last);
	return 0;
}

#endif

/*
 * What tasks ask of the page cache, in pages. Who includes this defines a function count(hits,
 * misses, dirties, created), which is called for the current task if that is wanted: pages that it
 * asked for and that were there, those that were brought for it, those that it made dirty, and
 * those that came only to be written.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

/* Of each file, how many pages were brought into the cache that nobody has asked for yet. */
BPF_TABLE("lru_hash", u64, s64, unread, 16384);

static inline bool is_wanted(void)
{
	return wanted((struct task_struct *)bpf_get_current_task());
}

/* The current task asks for pages of a file, "beside" of which it will not ask for. */
static inline void access(struct address_space *mapping, s64 pages, s64 beside)
{
	u64 key = (u64)mapping, cached = 0;
	s64 *known = unread.lookup(&key), new = 0;

	if (known && *known > 0) {
		/* What is not in the cache any more is not unread. */
		bpf_probe_read_kernel(&cached, sizeof(cached), &mapping->nrpages);
		new = *known < (s64)cached ? *known : cached;
		*known = new > pages + beside ? new - pages - beside : 0;
	}
	new = new < pages ? new : pages;
	if (is_wanted())
		count(pages - new, new, 0, 0);
}

/* The current task has read so many bytes of a file, up to "end". */
static inline int has_read(struct file *file, u64 end, s64 bytes)
{
	struct address_space *mapping = NULL;

	if (bytes <= 0)
		return 0;
	bpf_probe_read_kernel(&mapping, sizeof(mapping), &file->f_mapping);
	access(mapping, ((end - 1) >> $PAGE_SHIFT) - ((end - bytes) >> $PAGE_SHIFT) + 1, 0);
	return 0;
}

/* A page fault needs "pages" of a file, none or one; others beside it are mapped with it. */
static inline int has_faulted(struct vm_fault *fault, s64 pages, s64 beside)
{
	struct file *file = fault->vma->vm_file;

	if (file)
		access(file->f_mapping, pages, beside);
	return 0;
}

/* Pages come into the cache; those that are to be written are no misses. */
static inline int has_added(struct address_space *mapping, s64 pages, u64 flags)
{
	u64 key = (u64)mapping;
	s64 *known;

	if (flags & $GFP_WRITE) {
		if (is_wanted())
			count(0, 0, 0, pages);
		return 0;
	}
	known = unread.lookup(&key);
	if (known)
		__sync_fetch_and_add(known, pages);
	else
		unread.update(&key, &pages);
	return 0;
}

static inline int has_dirtied(s64 pages)
{
	if (is_wanted())
		count(0, 0, pages, 0);
	return 0;
}

FUNCTION_RETURN($BUFFERED_READ)
{
	u64 end;

	bpf_probe_read_kernel(&end, sizeof(end), &iocb->ki_pos);
	return has_read(iocb->ki_filp, end, result - $READ_BEFORE);
}

FUNCTION_RETURN(filemap_fault, vm_fault_t result, struct vm_fault *vmf)
{
	return $FAULT_COUNTS ? has_faulted(vmf, 1, 0) : 0;
}

$CACHE_PROGRAMS

/*
 * Text that is longer than a record has room for becomes several records, each with a piece of it
 * (read/pieces.py puts them together). Before this stand drafts (drafts.h) of an event that has the
 * members tid, piece (the number of the piece, from 0), what, and as the last one text, whose size
 * is a power of two.
 */
#define LAST 1 /* in "what": no piece follows */
#define CUT 2 /* in the last one: there is more of the text, which is missing */

/* Hand over the piece that is in a draft, of so many bytes, and go on to the next one. */
static inline void submit_piece(struct draft *draft, u64 size, u32 what)
{
	draft->event.what = what;
	size &= sizeof(draft->event.text) - 1;
	submit_draft(draft, offsetof(struct event, text) + size);
	draft->event.piece++;
}

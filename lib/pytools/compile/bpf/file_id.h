#ifndef FILE_ID_H
#define FILE_ID_H
#include <linux/fs.h>

/* A file, while it lives: another one that gets its number has another generation. */
struct file_id {
	u64 number;
	u32 device;
	u32 generation;
};

static inline struct file_id file_id(struct inode *inode)
{
	struct file_id id = {
		.number = inode->i_ino,
		.device = inode->i_sb->s_dev,
		.generation = inode->i_generation,
	};

	return id;
}
#endif

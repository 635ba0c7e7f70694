// SPDX-License-Identifier: GPL-2.0-only
/*
 * dm-record: a device-mapper target that records, for several devices together, what they were told and when.
 *
 *	dmsetup create NAME --table "0 SECTORS record DEVICE NUMBER"
 *
 * All devices write into one record, in memory, which begins when the module is loaded and can be read from
 * /dev/dm-record. What is written to that file becomes a mark in the record. tests/src/record.rs reads it and
 * says what a power cut may leave.
 *
 * dm-log-writes is not enough for two devices: its log does not say when a write was submitted, so two logs
 * cannot be cut at one moment; and if both devices share one log, it does not say which of them a flush was
 * for.
 *
 * The order of the entries is that of the events:
 *  - a write or a flush is in the record before the disk has it;
 *  - its end is there before the submitter knows;
 *  - a mark is there when write(2) returns.
 */

#include <linux/device-mapper.h>
#include <linux/bio.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define DM_MSG_PREFIX "record"

/* The longest mark. */
#define MARK_BYTES 128

/* What an entry is of. */
enum kind {
	WRITE_SENT = 1,
	FLUSH_SENT = 2,
	/* Of the write or flush with the same id. */
	ENDED = 3,
	MARK = 4,
};

#define FLAG_FUA 1
#define FLAG_FAILED 2

/* As it is read: the data follow. Little endian, as all machines that this runs on. */
struct head {
	__u32 kind;
	__u32 device;
	__u64 id;
	__u64 sector;
	__u32 flags;
	/* Bytes of data. */
	__u32 len;
};

struct entry {
	struct list_head list;
	struct head head;
	void *data;
};

static LIST_HEAD(entries);
static DEFINE_SPINLOCK(lock);
static u64 ids;

struct record {
	struct dm_dev *dev;
	u32 number;
};

/* Of each write and flush on its way. */
struct per_bio {
	struct entry *end;
};

static void append(struct entry *entry)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	list_add_tail(&entry->list, &entries);
	spin_unlock_irqrestore(&lock, flags);
}

static struct entry *new_entry(enum kind kind, u32 device, size_t len)
{
	struct entry *entry = kzalloc(sizeof(*entry), GFP_NOIO);

	if (!entry)
		return NULL;
	if (len) {
		entry->data = kvmalloc(len, GFP_NOIO);
		if (!entry->data) {
			kfree(entry);
			return NULL;
		}
	}
	entry->head.kind = kind;
	entry->head.device = device;
	entry->head.len = len;
	return entry;
}

static void free_entry(struct entry *entry)
{
	if (entry)
		kvfree(entry->data);
	kfree(entry);
}

static int record_map(struct dm_target *ti, struct bio *bio)
{
	struct record *r = ti->private;
	struct per_bio *pb = dm_per_bio_data(bio, sizeof(*pb));
	/* Device-mapper sends the flush of a write that has one before it, by itself. */
	bool flush = (bio->bi_opf & REQ_PREFLUSH) || bio_op(bio) == REQ_OP_FLUSH;
	struct entry *sent;
	unsigned long flags;

	pb->end = NULL;
	bio_set_dev(bio, r->dev->bdev);
	bio->bi_iter.bi_sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	if (bio_data_dir(bio) == READ)
		return DM_MAPIO_REMAPPED;
	if (flush ? bio_sectors(bio) : bio_op(bio) != REQ_OP_WRITE) {
		DMERR("cannot record operation %u with flags %#x", bio_op(bio), bio->bi_opf);
		return DM_MAPIO_KILL;
	}

	sent = new_entry(flush ? FLUSH_SENT : WRITE_SENT, r->number, bio->bi_iter.bi_size);
	pb->end = new_entry(ENDED, r->number, 0);
	if (!sent || !pb->end) {
		DMERR("no memory for the record");
		free_entry(sent);
		free_entry(pb->end);
		pb->end = NULL;
		return DM_MAPIO_KILL;
	}
	if (!flush) {
		struct bvec_iter iter;
		struct bio_vec bv;
		void *to = sent->data;

		sent->head.sector = bio->bi_iter.bi_sector;
		bio_for_each_segment(bv, bio, iter) {
			memcpy_from_bvec(to, &bv);
			to += bv.bv_len;
		}
		if (bio->bi_opf & REQ_FUA)
			sent->head.flags |= FLAG_FUA;
	}
	spin_lock_irqsave(&lock, flags);
	sent->head.id = pb->end->head.id = ++ids;
	list_add_tail(&sent->list, &entries);
	spin_unlock_irqrestore(&lock, flags);
	return DM_MAPIO_REMAPPED;
}

static int record_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct per_bio *pb = dm_per_bio_data(bio, sizeof(*pb));

	if (pb->end) {
		if (*error)
			pb->end->head.flags |= FLAG_FAILED;
		append(pb->end);
		pb->end = NULL;
	}
	return DM_ENDIO_DONE;
}

static int record_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct record *r;
	int error;

	if (argc != 2) {
		ti->error = "The arguments are a device and a number";
		return -EINVAL;
	}
	r = kzalloc(sizeof(*r), GFP_KERNEL);
	if (!r) {
		ti->error = "Not enough memory";
		return -ENOMEM;
	}
	if (kstrtou32(argv[1], 10, &r->number)) {
		ti->error = "The second argument is a number";
		kfree(r);
		return -EINVAL;
	}
	error = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &r->dev);
	if (error) {
		ti->error = "The device cannot be opened";
		kfree(r);
		return error;
	}
	/* The record shows a disk with a volatile cache, whatever is below. */
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->per_io_data_size = sizeof(struct per_bio);
	ti->private = r;
	return 0;
}

static void record_dtr(struct dm_target *ti)
{
	struct record *r = ti->private;

	dm_put_device(ti, r->dev);
	kfree(r);
}

static int record_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct record *r = ti->private;

	return fn(ti, r->dev, 0, ti->len, data);
}

static struct target_type record_target = {
	.name = "record",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = record_ctr,
	.dtr = record_dtr,
	.map = record_map,
	.end_io = record_end_io,
	.iterate_devices = record_iterate_devices,
};

/* Where a reader is. Entries are never removed while the module is loaded. */
struct reader {
	struct mutex mutex;
	/* The entry that is being read, or NULL at the beginning. */
	struct entry *entry;
	/* Bytes of it that have been read. */
	size_t at;
};

static int record_open(struct inode *inode, struct file *file)
{
	struct reader *reader = kzalloc(sizeof(*reader), GFP_KERNEL);

	if (!reader)
		return -ENOMEM;
	mutex_init(&reader->mutex);
	file->private_data = reader;
	return stream_open(inode, file);
}

static int record_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

/* The entry behind @entry, or the first; NULL at the end. */
static struct entry *next_entry(struct entry *entry)
{
	struct list_head *next;
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	next = entry ? entry->list.next : entries.next;
	spin_unlock_irqrestore(&lock, flags);
	return next == &entries ? NULL : list_entry(next, struct entry, list);
}

static ssize_t record_read(struct file *file, char __user *to, size_t len, loff_t *pos)
{
	struct reader *reader = file->private_data;
	const size_t head = sizeof(struct head);
	ssize_t done = 0;

	mutex_lock(&reader->mutex);
	while (done < len) {
		struct entry *entry = reader->entry;
		const void *from;
		size_t n;

		if (!entry || reader->at == head + entry->head.len) {
			entry = next_entry(entry);
			if (!entry)
				break;
			reader->entry = entry;
			reader->at = 0;
		}
		if (reader->at < head) {
			from = (void *)&entry->head + reader->at;
			n = head - reader->at;
		} else {
			from = entry->data + (reader->at - head);
			n = entry->head.len - (reader->at - head);
		}
		n = min_t(size_t, n, len - done);
		if (copy_to_user(to + done, from, n)) {
			done = done ? done : -EFAULT;
			break;
		}
		reader->at += n;
		done += n;
	}
	mutex_unlock(&reader->mutex);
	return done;
}

static ssize_t record_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct entry *entry;

	if (!len || len > MARK_BYTES)
		return -EINVAL;
	entry = new_entry(MARK, 0, len);
	if (!entry)
		return -ENOMEM;
	if (copy_from_user(entry->data, from, len)) {
		free_entry(entry);
		return -EFAULT;
	}
	append(entry);
	return len;
}

static const struct file_operations record_fops = {
	.owner = THIS_MODULE,
	.open = record_open,
	.release = record_release,
	.read = record_read,
	.write = record_write,
};

static struct miscdevice record_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dm-record",
	.fops = &record_fops,
	.mode = 0600,
};

static int __init record_init(void)
{
	int error = misc_register(&record_misc);

	if (error)
		return error;
	error = dm_register_target(&record_target);
	if (error)
		misc_deregister(&record_misc);
	return error;
}

static void __exit record_exit(void)
{
	struct entry *entry, *next;

	dm_unregister_target(&record_target);
	misc_deregister(&record_misc);
	list_for_each_entry_safe(entry, next, &entries, list)
		free_entry(entry);
}

module_init(record_init);
module_exit(record_exit);
MODULE_DESCRIPTION("records what several devices are told, for the tests of dm-writeboost");
MODULE_LICENSE("GPL");

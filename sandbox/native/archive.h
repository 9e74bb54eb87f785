/* The archives that snapshots are made of. */
#ifndef ARCHIVE_H
#define ARCHIVE_H
#include "frames.h"

/* Answer the requests S and U. */
void archive_pack(struct reader *request);
void archive_unpack(struct reader *request);
#endif

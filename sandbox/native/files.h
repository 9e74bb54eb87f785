/* Single files as PID 1 reads and writes them. */
#ifndef FILES_H
#define FILES_H
#include <stdbool.h>
#include <stddef.h>

#include "frames.h"

/* Answer the requests G and P. */
void file_get(struct reader *request);
void file_put(struct reader *request);

/* Answers a request: done, or the errno why not. */
void files_answer(int failed);
/* Makes a string of n bytes, in PATH_MAX; false if they are no path. */
bool path_from(const unsigned char *bytes, size_t n, char *path);
/* 0, or the errno why not. */
int write_all(int fd, const unsigned char *bytes, size_t n);
#endif

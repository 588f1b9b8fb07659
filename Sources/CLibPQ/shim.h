/* libpq as the Postgres room sees it: the public header, nothing else. */
#include <libpq-fe.h>

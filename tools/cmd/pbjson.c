// SPDX-License-Identifier: GPL-2.0-only
/* Any protobuf message as JSON, by walking its descriptor; kinds' bodies are unpacked by the
 * registry. */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "kind/kind.h"

#define BYTES_SHOWN 64

static struct json_object *bytes_json(const ProtobufCBinaryData *b)
{
	char hex[BYTES_SHOWN * 2 + 1];

	if (b->len > BYTES_SHOWN) {
		(void)snprintf(hex, sizeof(hex), "(%zu bytes)", b->len);
		return json_object_new_string(hex);
	}
	hex[0] = 0;
	for (size_t i = 0; i < b->len; i++)
		(void)snprintf(hex + i * 2, 3, "%02x", b->data[i]);
	return json_object_new_string(hex);
}

static const ProtobufCMessageDescriptor *body_of(const char *kind)
{
	const struct fd_kind *f = fd_kind_by_name(kind);
	const struct task_kind *t = task_kind_by_name(kind);

	return f ? f->desc : t ? t->desc : NULL;
}

/* A State is shown as its kind's message. */
static struct json_object *state_json(const Ckpt__State *st)
{
	const ProtobufCMessageDescriptor *desc = body_of(st->kind);
	ProtobufCMessage *m =
		desc ? protobuf_c_message_unpack(desc, NULL, st->body.len, st->body.data) : NULL;
	struct json_object *o = m ? cmd_message_json(m) : json_object_new_object();

	json_object_object_add(o, "kind", json_object_new_string(st->kind));
	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
	else
		json_object_object_add(o, "body", bytes_json(&st->body));
	return o;
}

static struct json_object *value_json(const ProtobufCFieldDescriptor *f, const void *p)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_ENUM:
		return json_object_new_int(*(const int32_t *)p);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return json_object_new_int64(*(const uint32_t *)p);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return json_object_new_int64(*(const int64_t *)p);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return json_object_new_uint64(*(const uint64_t *)p);
	case PROTOBUF_C_TYPE_BOOL:
		return json_object_new_boolean(*(const protobuf_c_boolean *)p);
	case PROTOBUF_C_TYPE_FLOAT:
		return json_object_new_double((double)*(const float *)p);
	case PROTOBUF_C_TYPE_DOUBLE:
		return json_object_new_double(*(const double *)p);
	case PROTOBUF_C_TYPE_STRING:
		return json_object_new_string(*(char *const *)p ? *(char *const *)p : "");
	case PROTOBUF_C_TYPE_BYTES:
		return bytes_json(p);
	case PROTOBUF_C_TYPE_MESSAGE: {
		const ProtobufCMessage *m = *(ProtobufCMessage *const *)p;

		if (!m)
			return NULL;
		return m->descriptor == &ckpt__state__descriptor
			       ? state_json((const Ckpt__State *)m)
			       : cmd_message_json(m);
	}
	}
	return NULL;
}

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_ENUM:
		break;
	}
	return 4;
}

struct json_object *cmd_message_json(const ProtobufCMessage *msg)
{
	struct json_object *o = json_object_new_object();

	for (unsigned int i = 0; i < msg->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &msg->descriptor->fields[i];
		const char *at = (const char *)msg + f->offset;
		struct json_object *v;

		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)((const char *)msg + f->quantifier_offset);
			const char *e = *(char *const *)at;

			v = json_object_new_array();
			for (size_t k = 0; k < n; k++)
				json_object_array_add(v, value_json(f, e + k * element_size(f)));
		} else {
			v = value_json(f, at);
		}
		if (v)
			json_object_object_add(o, f->name, v);
	}
	return o;
}

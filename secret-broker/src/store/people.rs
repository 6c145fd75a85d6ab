//! People and which ServiceAccounts act for them. The only place where a pseudonym meets a name.

use super::database::{Row, Session, values};
use super::{Store, StoreError, now};
use crate::identity::Subject;

/// A person known to this broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their name on the ledger.
    pub pseudonym: String,
    /// Who they are.
    pub subject: Subject,
    /// The hub's raw username, or a name to show.
    pub username: Option<String>,
}

/// A person's two ServiceAccounts and their home in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Whose.
    pub pseudonym: String,
    /// Namespace of both accounts.
    pub namespace: String,
    /// The notebook's account: acts for the person.
    pub notebook: Account,
    /// The executor's account: pods of the person's workflows run as it.
    pub executor: Account,
    /// The person's home.
    pub home: Home,
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Where the home is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The claim.
    pub claim: String,
    /// Directory in it; empty for its root.
    pub sub_path: String,
    /// Where it is in the pod.
    pub mount_path: String,
}

/// What a binding did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// It holds now, and replaced these notebook uids of the same person and namespace.
    Done {
        /// Uids that no longer act for anybody.
        replaced: Vec<String>,
    },
    /// One of the uids acts for somebody else.
    TakenByAnother,
}

impl Store {
    /// Remembers a person. A name that is told replaces an older one; none leaves it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remember(&self, person: &Person) -> Result<(), StoreError> {
        let mut session = self.write().await?;
        upsert(&mut session, person).await?;
        session.commit().await
    }

    /// The person that a notebook's ServiceAccount acts for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person_of_notebook(&self, uid: &str) -> Result<Option<Person>, StoreError> {
        let found = self.read().await?.row(
            "SELECT s.pseudonym, s.issuer, s.sub, s.username FROM bindings AS b JOIN subjects AS s ON s.pseudonym = b.pseudonym
             WHERE b.notebook_uid = $1",
            values![uid],
        ).await?;
        found.as_ref().map(person).transpose()
    }

    /// The person behind a pseudonym.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn person(&self, pseudonym: &str) -> Result<Option<Person>, StoreError> {
        let found = self
            .read()
            .await?
            .row(
                "SELECT pseudonym, issuer, sub, username FROM subjects WHERE pseudonym = $1",
                values![pseudonym],
            )
            .await?;
        found.as_ref().map(person).transpose()
    }

    /// All bindings.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        let rows = self
            .read()
            .await?
            .rows(
                "SELECT pseudonym, namespace, notebook_name, notebook_uid, executor_name, executor_uid,
                        home_claim, home_sub_path, home_mount FROM bindings ORDER BY notebook_uid",
                &[],
            )
            .await?;
        rows.iter().map(binding).collect()
    }

    /// A number that grows with each change of a binding, at whichever broker.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bindings_mark(&self) -> Result<i64, StoreError> {
        let mark = self
            .read()
            .await?
            .cell("SELECT number FROM marks WHERE name = 'bindings'", &[])
            .await?;
        Ok(mark.unwrap_or_default())
    }

    /// Binds a person to two ServiceAccounts, in place of those that the person had in the namespace. All or nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bind(&self, person: &Person, binding: &Binding) -> Result<Bound, StoreError> {
        let mut session = self.write().await?;
        let (notebook, executor) = (&binding.notebook.uid, &binding.executor.uid);
        let whose = (&binding.pseudonym, &binding.namespace);
        let foreign = session
            .row(
                "SELECT 1 FROM bindings WHERE (notebook_uid IN ($1, $2) OR executor_uid IN ($1, $2))
                 AND NOT (pseudonym = $3 AND namespace = $4)",
                values![notebook, executor, whose.0, whose.1],
            )
            .await?;
        if foreign.is_some() {
            return Ok(Bound::TakenByAnother);
        }
        upsert(&mut session, person).await?;
        let before = session
            .rows(
                "SELECT notebook_uid FROM bindings WHERE pseudonym = $1 AND namespace = $2",
                values![whose.0, whose.1],
            )
            .await?;
        session
            .run(
                "DELETE FROM bindings WHERE pseudonym = $1 AND namespace = $2",
                values![whose.0, whose.1],
            )
            .await?;
        session
            .run(
                "INSERT INTO bindings (notebook_uid, notebook_name, executor_uid, executor_name, namespace, pseudonym,
                                       home_claim, home_sub_path, home_mount, bound_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                values![
                    notebook,
                    &binding.notebook.name,
                    executor,
                    &binding.executor.name,
                    whose.1,
                    whose.0,
                    &binding.home.claim,
                    &binding.home.sub_path,
                    &binding.home.mount_path,
                    now(),
                ],
            )
            .await?;
        session
            .run(
                "UPDATE marks SET number = number + 1 WHERE name = 'bindings'",
                &[],
            )
            .await?;
        let before = before.iter().map(|row| row.get(0));
        let before: Vec<String> = before.collect::<Result<_, _>>()?;
        session.commit().await?;
        let replaced = before.into_iter().filter(|uid| uid != notebook).collect();
        Ok(Bound::Done { replaced })
    }
}

async fn upsert(session: &mut Session, person: &Person) -> Result<(), StoreError> {
    let there = session
        .run(
            "UPDATE subjects SET username = coalesce($2, username) WHERE pseudonym = $1",
            values![&person.pseudonym, &person.username],
        )
        .await?;
    if there > 0 {
        return Ok(());
    }
    let insert =
        "INSERT INTO subjects (pseudonym, issuer, sub, username, created_at) VALUES ($1, $2, $3, $4, $5)";
    let values = values![
        &person.pseudonym,
        &person.subject.issuer,
        &person.subject.sub,
        &person.username,
        now(),
    ];
    session.run(insert, values).await?;
    Ok(())
}

fn person(row: &Row) -> Result<Person, StoreError> {
    Ok(Person {
        pseudonym: row.get(0)?,
        subject: Subject {
            issuer: row.get(1)?,
            sub: row.get(2)?,
        },
        username: row.get(3)?,
    })
}

fn binding(row: &Row) -> Result<Binding, StoreError> {
    Ok(Binding {
        pseudonym: row.get(0)?,
        namespace: row.get(1)?,
        notebook: Account {
            name: row.get(2)?,
            uid: row.get(3)?,
        },
        executor: Account {
            name: row.get(4)?,
            uid: row.get(5)?,
        },
        home: Home {
            claim: row.get(6)?,
            sub_path: row.get(7)?,
            mount_path: row.get(8)?,
        },
    })
}
